"""A Linen module with methods over the same parameters, in words that each version of Flax has."""

from flax import linen as nn


class Methods(nn.Module):
    """Methods by every way to name them."""

    def setup(self):
        self.encoder = nn.Dense(4)
        self.decoder = nn.Dense(3)

    def __call__(self, x):
        return self.decode(self.encode(x))

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z, scale=1.0):
        return self.decoder(z) * scale
