"""Wrappers inside the other system's modules, without a transformation between them."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def test_a_linen_module_made_by_an_nnx_constructor_keeps_its_own_variables():
    class Middle(nnx.Module):
        def __init__(self, rngs):
            self.scale = nnx.Param(jnp.full((3,), 2.0))
            self.inner = ours.ToLinen(nnx.Linear, args=(3, 3), name="inner")

        def __call__(self, x):
            return self.inner(x) * self.scale[...]

    model = ours.ToLinen(Middle)
    y, variables = model.init_with_output(RNGS, X)
    native = theirs.ToLinen(nnx.Linear, args=(3, 3))
    inner = {"params": variables["params"]["inner"]}
    assert_same(y, native.apply(inner, X) * 2.0)
    assert_same(model.apply(variables, X), y)  # a warning would be an error here


class TwiceDense(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))


@pytest.mark.parametrize("module", [nn.Dense(3), TwiceDense()], ids=["dense", "norm"])
def test_a_to_nnx_called_twice_in_init_keeps_one_set_of_variables(module):
    def outer(bridge):
        class Outer(nnx.Module):
            def __init__(self, rngs):
                self.a = bridge.ToNNX(module, rngs=rngs)

            def __call__(self, x):
                return self.a(self.a(x))

        return bridge.ToLinen(Outer)

    y, variables = outer(ours).init_with_output(RNGS, X)
    assert_same(y, outer(theirs).init_with_output(RNGS, X)[0])
    assert_same(outer(ours).apply(variables, X, mutable=["batch_stats"])[0], y)
    initial = {c: v["a"] for c, v in variables.items()}
    native = jax.tree.map(jnp.shape, module.init(RNGS, X))
    assert jax.tree.map(jnp.shape, initial) == native
    for collection, tree in initial.items():
        if collection == "batch_stats":  # as in Linen, init does not update statistics
            assert_same(tree["BatchNorm_0"]["mean"], jnp.zeros(3))
