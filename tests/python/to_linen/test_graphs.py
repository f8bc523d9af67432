"""Module graphs of every shape through ToLinen, compared with Flax's bridge."""

import flax
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.core import FrozenDict

from support.odd_graphs import (
    GRAPHS,
    Containers,
    HoldsNode,
    HoldsVariablesInPytrees,
    KeepsRngs,
    NotAPytree,
    Point,
    RawArrays,
    Shared,
    Sows,
    Statics,
    Types,
)
from support.oracle import assert_same, ours, theirs
from support.versions import DATA_MARKS, REF, with_var_defaults

pytestmark = pytest.mark.filterwarnings(r"ignore:\s*Using 'Module:DeprecationWarning")

X = jnp.arange(6.0).reshape(2, 3)
KEY = jax.random.key(3)

RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


def both(cls):
    return ours.ToLinen(cls), theirs.ToLinen(cls)


@pytest.mark.parametrize("cls", GRAPHS)
def test_init_makes_the_same_variables_and_output(cls):
    mine, reference = both(cls)
    assert_same(mine.init_with_output(RNGS, X), reference.init_with_output(RNGS, X))


@pytest.mark.parametrize("cls", GRAPHS)
def test_apply_gives_the_same_output(cls):
    mine, reference = both(cls)
    variables = reference.init(RNGS, X)
    assert_same(mine.apply(variables, X), reference.apply(variables, X))


@pytest.mark.parametrize("cls", GRAPHS)
def test_apply_with_rngs_and_every_collection_mutable_gives_the_same(cls):
    mine, reference = both(cls)
    variables = reference.init(RNGS, X)
    rngs = {"dropout": KEY, "params": jax.random.key(9)}
    assert_same(
        mine.apply(variables, X, rngs=rngs, mutable=True),
        reference.apply(variables, X, rngs=rngs, mutable=True),
    )


MUTABLE = [
    False,
    True,
    "batch_stats",
    ["batch_stats", "cache"],
    [],
    flax.core.DenyList("cache"),
    flax.core.DenyList(["params", "intermediates"]),
]


@pytest.mark.parametrize("mutable", MUTABLE, ids=str)
@pytest.mark.parametrize("cls", [Types, Sows])
def test_every_form_of_mutable_gives_the_same(cls, mutable):
    mine, reference = both(cls)
    variables = reference.init(RNGS, X)
    assert_same(
        mine.apply(variables, X, mutable=mutable), reference.apply(variables, X, mutable=mutable)
    )


@pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters")
@pytest.mark.parametrize("missing", ["params", "batch_stats", "graph_tests_named", "Custom"])
def test_a_missing_collection_is_filled_by_the_constructor_alike(missing):
    mine, reference = both(Types)
    variables = {k: v for k, v in reference.init(RNGS, X).items() if k != missing}
    assert_same(mine.apply(variables, X, mutable=True), reference.apply(variables, X, mutable=True))


@pytest.mark.parametrize("cls", [Shared, Containers, KeepsRngs, NotAPytree, HoldsNode])
def test_jit_of_apply_gives_the_same(cls):
    mine, reference = both(cls)
    variables = reference.init(RNGS, X)
    assert_same(
        jax.jit(lambda v: mine.apply(v, X, rngs={"dropout": KEY}))(variables),
        jax.jit(lambda v: reference.apply(v, X, rngs={"dropout": KEY}))(variables),
    )


@pytest.mark.parametrize("cls", [Shared, Containers, Statics, HoldsVariablesInPytrees])
def test_gradients_are_the_same(cls):
    mine, reference = both(cls)
    variables = reference.init(RNGS, X)

    def loss(module):
        return jax.grad(lambda v: jnp.sum(module.apply(v, X) ** 2))(variables)

    assert_same(loss(mine), loss(reference))


class Tree(nnx.Module):
    """A Variable whose value is a pytree."""

    def __init__(self, rngs):
        self.tree = nnx.Param({"a": jnp.ones(3), "b": {"c": jnp.zeros(3)}})
        self.frozen = nnx.Param(FrozenDict({"a": jnp.ones(3)}))
        self.state = nnx.Variable(optax.adam(1e-3).init({"w": jnp.ones(3)}))

    def __call__(self, x):
        tree = self.tree.get_value()
        return x * tree["a"] + tree["b"]["c"] + self.frozen.get_value()["a"]


def test_a_variable_whose_value_is_a_pytree_is_loaded_whole():
    mine, reference = both(Tree)
    y, variables = mine.init_with_output(RNGS, X)
    assert_same((y, variables), reference.init_with_output(RNGS, X))
    assert_same(mine.apply(variables, X), y)


class Immutable(nnx.Module):
    """Arrays in containers that cannot be changed in place."""

    def __init__(self, rngs):
        self.pair = nnx.data((jnp.ones(3), jnp.zeros(3)))
        self.state = nnx.data(optax.adam(1e-3).init({"w": jnp.full((3,), 2.0)}))
        self.point = nnx.data(Point(jnp.ones(3), 5))

    def __call__(self, x):
        assert isinstance(self.state[0], type(optax.adam(1e-3).init({})[0]))
        return x * self.pair[0] + self.state[0].mu["w"] + self.point.x * self.point.y


def test_arrays_in_tuples_and_optimizer_states_are_loaded():
    mine, reference = both(Immutable)
    y, variables = mine.init_with_output(RNGS, X)
    assert_same((y, variables), reference.init_with_output(RNGS, X))
    doubled = jax.tree.map(lambda a: a * 2, variables)
    expected = X * 2 + 0 + 2 * 5
    assert_same(mine.apply(doubled, X), expected)


class Refs(nnx.Module):
    def __init__(self, rngs):
        self.raw = jax.new_ref(jnp.ones(3))
        self.count = nnx.BatchStat(jnp.zeros(3), **{REF: True})

    def __call__(self, x):
        self.count[...] = self.count[...] + 1
        return x * self.raw[...] + self.count[...]


def test_array_refs_are_stored_as_arrays_and_loaded_into_fresh_refs():
    model = ours.ToLinen(Refs)
    variables = model.init(RNGS, X)
    assert_same(variables["Ref"]["raw"], jnp.ones(3))
    given = {"Ref": {"raw": jnp.full((3,), 5.0)}, "batch_stats": {"count": jnp.full((3,), 2.0)}}
    y, updates = model.apply(given, X, mutable="batch_stats")
    assert_same(y, X * 5.0 + 3.0)
    assert_same(updates, {"batch_stats": {"count": jnp.full((3,), 3.0)}})
    assert_same(given["batch_stats"]["count"], jnp.full((3,), 2.0))


def test_raw_arrays_keep_their_collection_under_tracing():
    model = ours.ToLinen(RawArrays)
    eager = model.init(RNGS, X)
    traced = jax.jit(model.init)(RNGS, X)
    assert jax.tree.structure(eager) == jax.tree.structure(traced)
    assert set(eager) == ({"ArrayImpl", "float"} if DATA_MARKS else {"ArrayImpl"})


FLAGS = {
    "flax_pytree_module": False,
    "flax_return_frozendict": True,
    "flax_fix_rng_separator": True,
    "flax_always_shard_variable": False,
    "nnx_sow_capture_noop": True,  # Flax 0.12.12 has it, 0.12.8 does not
}


@pytest.mark.parametrize("flag", sorted(f for f in FLAGS if hasattr(flax.config, f)))
@pytest.mark.parametrize("cls", [Containers, Types, Sows, KeepsRngs])
def test_flags_of_flax_change_both_alike(cls, flag):
    before = getattr(flax.config, flag)
    flax.config.update(flag, FLAGS[flag])
    try:
        mine, reference = both(cls)
        variables = reference.init(RNGS, X)
        assert_same(mine.init(RNGS, X), variables)
        assert_same(
            mine.apply(variables, X, mutable=True), reference.apply(variables, X, mutable=True)
        )
    finally:
        flax.config.update(flag, before)


@with_var_defaults
def test_hijax_variables_keep_the_collection_of_their_type():
    with nnx.var_defaults(hijax=True):
        model = ours.ToLinen(nnx.Linear, args=(3, 3))
        y, variables = model.init_with_output(RNGS, X)
        assert set(variables) == {"params"}
        assert_same(model.apply(variables, X), y)
    plain = ours.ToLinen(nnx.Linear, args=(3, 3))
    assert_same(plain.apply(variables, X), y)


@with_var_defaults
def test_variables_in_refs_by_default_give_the_same_output():
    with nnx.var_defaults(ref=True):
        mine, reference = both(Types)
        y, variables = mine.init_with_output(RNGS, X)
        assert_same((y, variables), reference.init_with_output(RNGS, X))
        assert_same(
            mine.apply(variables, X, mutable=True), reference.apply(variables, X, mutable=True)
        )
