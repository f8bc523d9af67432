"""Every layer class of flax.nnx through `ToLinen`, held against Flax's own bridge."""
