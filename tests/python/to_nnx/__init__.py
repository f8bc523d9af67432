"""Linen modules as NNX modules: `ToNNX` and `lazy_init`."""
