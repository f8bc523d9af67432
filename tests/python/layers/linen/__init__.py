"""Every layer class of flax.linen through ToNNX, against Flax's own bridge."""
