"""Calls of a ToNNX and its `lazy_init`: by which method, and with which streams."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, assert_same_module, ours, state_of, theirs
from support.two_methods import Methods

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


CALLS = {
    "attribute": lambda m, z: m.decode(z, scale=2.0),
    "name": lambda m, z: m(z, scale=2.0, method="decode"),
    "function": lambda m, z: m(z, scale=2.0, method=Methods.decode),
}


@pytest.mark.parametrize("way", sorted(CALLS))
def test_methods_of_the_linen_class_run_alike(way):
    outputs = []
    for bridge in (ours, theirs):
        model = bridge.lazy_init(bridge.ToNNX(Methods(), rngs=nnx.Rngs(0)), X)
        outputs.append(CALLS[way](model, model.encode(X)))
    assert_same(outputs[0], outputs[1])


def test_lazy_init_of_a_method_makes_only_what_it_reaches():
    models = []
    for bridge in (ours, theirs):
        model = bridge.ToNNX(Methods(), rngs=nnx.Rngs(0))
        bridge.lazy_init(model.encode, X)
        models.append(model)
    assert_same_module(models[0], models[1])
    assert {path.split("/")[0] for path in state_of(models[0])} == {"encoder", "to_nnx__rngs"}


def test_lazy_init_returns_what_it_was_given():
    model = ours.ToNNX(Methods(), rngs=nnx.Rngs(0))
    method = model.encode
    assert ours.lazy_init(method, X) is method
    assert ours.lazy_init(model, X) is model
    assert model.lazy_init(X) is model


def test_release_rngs_takes_the_streams_out_of_the_state():
    model = ours.ToNNX(Methods(), rngs=nnx.Rngs(0)).lazy_init(X)
    before = model(X)
    model.release_rngs()
    assert not any(path.startswith("to_nnx__rngs") for path in state_of(model))
    assert_same(model(X), before)


def test_deprecated_names_warn():
    model = ours.ToNNX(Methods(), rngs=nnx.Rngs(0))
    with pytest.warns(DeprecationWarning, match="to_nnx__rngs"):
        assert model.rngs is model.to_nnx__rngs
    with pytest.warns(DeprecationWarning, match="to_nnx__module"):
        assert model.module is model.to_nnx__module


def test_rngs_given_to_a_call_replace_the_modules_own():
    class Noise(nn.Module):
        @nn.compact
        def __call__(self):
            return jax.random.normal(self.make_rng("noise"), (3,))

    results = []
    for bridge in (ours, theirs):
        model = bridge.ToNNX(Noise(), rngs=nnx.Rngs(noise=0))
        given = nnx.Rngs(noise=5)
        out = [model(), model(rngs=given), model(rngs=given), model(), model(rngs=RNGS["params"])]
        results.append((out, state_of(model), state_of(given)))
    assert_same(results[0], results[1])
    model = ours.ToNNX(Noise())
    assert_same(
        model(rngs={"noise": RNGS["params"]}), Noise().apply({}, rngs={"noise": RNGS["params"]})
    )


def test_a_key_given_to_the_constructor_is_the_params_stream():
    mine = ours.ToNNX(nn.Dense(3), rngs=RNGS["params"]).lazy_init(X)
    assert_same_module(mine, theirs.lazy_init(theirs.ToNNX(nn.Dense(3), rngs=RNGS["params"]), X))
