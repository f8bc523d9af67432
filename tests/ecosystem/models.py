"""What the programs of several libraries wrap."""

from flax import nnx


class Mlp(nnx.Module):
    """A small network with as many outputs as asked for."""

    def __init__(self, inputs, outputs, width=8, squeeze=False, *, rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.second = nnx.Linear(width, outputs, rngs=rngs)
        self.squeeze = squeeze

    def __call__(self, x):
        y = self.second(nnx.tanh(self.first(x)))
        return y[..., 0] if self.squeeze else y
