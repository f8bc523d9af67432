"""Other programs and libraries, which meet these wrappers instead of Flax's or MaxText's."""
