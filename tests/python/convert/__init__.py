"""Variables, boxes and whole states on their way between Linen and NNX."""
