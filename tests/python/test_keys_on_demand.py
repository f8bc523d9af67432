"""Keys of a ToNNX call: computed when Linen asks, the counts advanced in any case."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict
from flax.errors import InvalidRngError

from oracle import assert_same, assert_same_module, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)


def rngs():
    return nnx.Rngs(params=0, dropout=1, noise=2)


class Noisy(nn.Module):
    """Draws from two streams, one of them twice; a third falls back to params."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = nn.Dropout(self.rate, deterministic=False)(nn.Dense(3)(x))
        noise = jax.random.normal(self.make_rng("noise"), x.shape)
        return x + noise, jax.random.normal(self.make_rng("unknown"), x.shape)


def made(bridge, module, streams=None):
    return bridge.lazy_init(bridge.ToNNX(module, rngs=streams or rngs()), X)


def program(function, *args):
    """The printed program, nested calls included."""
    return str(jax.make_jaxpr(function)(*args))


def call(model):
    graphdef, state = nnx.split(model)

    def run(state, x):
        module = nnx.merge(graphdef, state)
        out = module(x)
        return out, nnx.state(module)

    return run, state


def test_outputs_and_counts_are_flax_s_over_several_calls():
    mine, reference = made(ours, Noisy()), made(theirs, Noisy())
    for _ in range(3):
        assert_same(mine(X), reference(X))
        assert_same_module(mine, reference)


@pytest.mark.parametrize("streams", [nnx.Rngs(7), nnx.Rngs(7, dropout=1), nnx.Rngs(params=3)])
def test_a_stream_that_is_missing_falls_back(streams):
    results = []
    for bridge in (ours, theirs):
        model = made(bridge, Noisy(), nnx.clone(streams))
        results.append([model(X), model(X)])
    assert_same(results[0], results[1])


@pytest.mark.parametrize("given", [rngs, lambda: jax.random.key(5)], ids=["Rngs", "key"])
def test_streams_given_to_the_call(given):
    results = []
    for bridge in (ours, theirs):
        model, source = made(bridge, Noisy()), given()
        results.append([model(X, rngs=source), model(X, rngs=source)])
    assert_same(results[0], results[1])


def test_a_model_that_never_asks_draws_no_key():
    mine, reference = made(ours, nn.Dense(3)), made(theirs, nn.Dense(3))
    draws = [
        program(*call_with_input(model)).count("random_fold_in") for model in (mine, reference)
    ]
    assert draws[0] == 0
    assert draws[1] == 3
    (_, state), (_, expected) = (run(state, X) for run, state in map(call, (mine, reference)))
    assert_same(nnx.to_pure_dict(state), nnx.to_pure_dict(expected))


def call_with_input(model):
    run, state = call(model)
    return run, state, X


def test_a_key_is_drawn_once_however_often_it_is_asked_for():
    counts = [program(*call_with_input(made(bridge, Noisy()))) for bridge in (ours, theirs)]
    assert counts[0].count("random_fold_in") == counts[1].count("random_fold_in")


class Lifted(nn.Module):
    """Dropout inside of each kind of lifted transformation."""

    @nn.compact
    def __call__(self, x):
        x = nn.remat(nn.Dropout)(0.5, deterministic=False)(x)
        x = nn.jit(nn.Dropout)(0.5, deterministic=False)(x)
        x, _ = nn.scan(
            Step,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=2,
        )()(x, None)
        split = {"params": True, "dropout": True}
        return nn.vmap(nn.Dropout, variable_axes={"params": 0}, split_rngs=split)(
            0.5, deterministic=False
        )(x)


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(3)(x)), None


@pytest.mark.parametrize("traced", [False, True])
def test_lifted_transforms_get_real_keys(traced):
    results = []
    with jax.checking_leaks():
        for bridge in (ours, theirs):
            run, state = call(made(bridge, Lifted()))
            out, after = (jax.jit(run) if traced else run)(state, X)
            results.append((out, nnx.to_pure_dict(after)))
    assert_same(results[0], results[1])


class Asks(nn.Module):
    """Looks at its streams in each way that Linen has."""

    @nn.compact
    def __call__(self, x):
        inside = jax.jit(lambda y: y * self.has_rng("dropout"))(x)
        keys = {name: lazy.as_jax_rng() for name, lazy in self.scope.rngs.items()}
        return inside, keys, self.make_rng("dropout"), sorted(self.scope.rngs)


@pytest.mark.parametrize("traced", [False, True])
def test_whoever_looks_at_the_streams_sees_keys(traced):
    results = []
    with jax.checking_leaks():
        for bridge in (ours, theirs):
            run, state = call(made(bridge, Asks()))
            out, _ = (jax.jit(lambda s, x, run=run: (run(s, x)[0][:3], 0)) if traced else run)(
                state, X
            )
            results.append(out[:3])
    assert_same(results[0], results[1])


@pytest.mark.parametrize("streams", [5, None, FrozenDict({})], ids=["number", "none", "frozen"])
def test_streams_that_are_no_dict_are_what_linen_makes_of_them(streams):
    class Replaces(nn.Module):
        child: bool

        @nn.compact
        def __call__(self, x):
            self.scope.rngs = streams
            assert self.scope.rngs is streams
            return nn.Dense(3)(x) if self.child else x

    def outcome(bridge, child):
        try:
            return made(bridge, Replaces(child))(X)
        except (AttributeError, InvalidRngError) as error:
            return str(error).partition("\n")[0]

    for child in (False, True):
        assert_same(outcome(ours, child), outcome(theirs, child))


def test_a_submodule_called_by_name_gets_keys():
    class Outer(nn.Module):
        inner: nn.Module

        @nn.compact
        def __call__(self, x):
            return self.inner(x)

    results = []
    for bridge in (ours, theirs):
        model = made(bridge, Outer(nn.Dropout(0.5, deterministic=False)))
        results.append([model(X, method="inner"), model(X)])
    assert_same(results[0], results[1])


class Inner(nnx.Module):
    def __init__(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.dense(x))


class Middle(nn.Module):
    bridge: object

    @nn.compact
    def __call__(self, x):
        return self.bridge.ToLinen(Inner, name="inner")(x)


def test_three_deep_with_dropout_in_the_middle():
    results = []
    for bridge in (ours, theirs):
        model = made(bridge, Middle(bridge))
        results.append([model(X), model(X)])
    assert_same(results[0], results[1])


def test_hooks_of_a_stream_run():
    results = []
    for bridge in (ours, theirs):
        streams = rngs()
        streams.dropout.key.set_metadata("on_get_value", lambda variable, key: jax.random.key(9))
        model = made(bridge, Noisy())
        results.append(model(X, rngs=streams))
    assert_same(results[0], results[1])
