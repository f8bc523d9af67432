"""Where calls stand: inside Linen, inside flax.nnx.bridge modules, nowhere."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, state_of, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))


def test_the_innermost_linen_module_is_found():
    seen = []

    class Inner(nn.Module):
        def __call__(self):
            seen.append(ours.current_linen_module() is self)
            seen.append(ours.is_linen_initializing())

    class Outer(nn.Module):
        @nn.compact
        def __call__(self):
            Inner()()
            seen.append(ours.current_linen_module() is self)

    assert ours.current_linen_module() is None
    assert not ours.is_linen_initializing()
    Outer().init({})
    Outer().apply({})
    assert seen == [True, True, True, True, False, True]
    assert ours.current_linen_module() is None


def test_other_threads_do_not_see_the_context():
    with ThreadPoolExecutor(1) as pool:

        class Model(nn.Module):
            def __call__(self):
                return pool.submit(ours.current_linen_module).result()

        assert Model().apply({}) is None


@pytest.mark.parametrize("add_default", [False, True])
def test_keys_for_every_active_stream_are_drawn_alike(add_default):
    class Model(nn.Module):
        bridge: object

        @nn.compact
        def __call__(self):
            first = self.bridge.linen_rngs_dict(self, add_default=add_default)
            return first, self.bridge.linen_rngs_dict(self, add_default), self.make_rng("params")

    mine = Model(ours).apply({}, rngs=RNGS)
    reference = Model(theirs.wrappers).apply({}, rngs=RNGS)
    assert list(mine[0]) == list(reference[0])
    assert_same(mine, reference)


def in_linen(bridge, model):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return model(x) * self.variable("batch_stats", "s", lambda: jnp.ones(())).value

    return Outer()


@pytest.mark.parametrize("mutable", [["batch_stats"], True])
def test_the_scope_of_linen_gives_the_default_of_mutable(mutable):
    results = []
    for bridge in (ours, theirs):
        model = bridge.lazy_init(bridge.ToNNX(Norm(), rngs=nnx.Rngs(0)), X)
        out = in_linen(bridge, model).apply({"batch_stats": {"s": 1.0}}, X, mutable=mutable)
        results.append((out, state_of(model)))
    assert_same(results[0], results[1])


def bridge_module(wrappers):
    class Model(theirs.Module):
        @theirs.compact
        def __call__(self, x):
            inner = wrappers.ToNNX(Norm(), rngs=self.scope.rngs)
            inner._pytree__state._initializing = self.is_initializing()
            self.inner = inner
            return self.inner(x)

    return Model()


def test_inside_a_bridge_module_both_behave_alike():
    mine = bridge_module(ours).init_with_output(0, X)
    reference = bridge_module(theirs).init_with_output(0, X)
    assert_same(mine, reference)
