"""`functional`: an NNX class as a pair of functions, against Flax's."""

import jax.numpy as jnp
from flax import nnx

from support.oracle import assert_same, describe, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)


def test_functional_modules_run_alike():
    results = []
    for bridge in (ours, theirs):
        functional = bridge.functional(nnx.Linear)(3, 4)
        state = functional.init(rngs=nnx.Rngs(0))
        out, (_, after) = functional.apply(state)(X)
        results.append((out, nnx.to_pure_dict(state), nnx.to_pure_dict(after)))
    assert_same(results[0], results[1])
    assert describe(results[0][1]) == describe(results[0][2])
