"""Every layer class of Flax in every way to use it, against Flax's own bridge."""
