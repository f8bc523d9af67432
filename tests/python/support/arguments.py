"""A model that takes one argument, which is part of the key of its plan."""

import jax
import jax.numpy as jnp
from flax import nnx

import nnx_wrappers as nw

X = jnp.ones((1, 3))
KEY = jax.random.key(0)


class Layer(nnx.Module):
    def __init__(self, argument, rngs):
        self.layer = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)


VARIABLES = nw.ToLinen(Layer, args=(None,)).init(KEY, X)
WANTED = nw.ToLinen(Layer, args=(None,)).apply(VARIABLES, X)


def apply(argument):
    return nw.ToLinen(Layer, args=(argument,)).apply(VARIABLES, X)
