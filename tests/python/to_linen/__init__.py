"""NNX classes as Linen modules: `ToLinen`, `to_linen` and `to_linen_class`."""
