"""The conversions between Linen's variables and NNX's, beside those of the installed Flax."""

import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import meta
from flax.nnx.bridge import variables as flax_conversions
from record import bits, leaves_of, theirs

import nnx_wrappers
from layers import CASES, made

VALUE = jnp.arange(6.0).reshape(2, 3)
# Made anew for each use, since Flax's own conversion takes boxes apart.
LEAVES = {
    "array": lambda: VALUE,
    "partitioned": lambda: meta.Partitioned(VALUE, names=("in", "out")),
    "logically partitioned": lambda: nn.LogicallyPartitioned(VALUE, names=("in", "out")),
    "nnx box": lambda: nnx.bridge.NNXMeta(nnx.Param, VALUE, {"note": "kept"}),
}
each_leaf = pytest.mark.parametrize("name", LEAVES)


def described(variable):
    return type(variable), dict(variable.get_metadata()), bits(variable.value)


@each_leaf
def test_a_leaf_becomes_the_same_variable(name):
    mine = nnx_wrappers.to_nnx_var("params", LEAVES[name]())
    reference = flax_conversions.to_nnx_var("params", LEAVES[name]())
    assert described(mine) == described(reference)


@each_leaf
def test_a_variable_becomes_the_same_leaf(name):
    variable = nnx_wrappers.to_nnx_var("params", LEAVES[name]())
    mine = nnx_wrappers.to_linen_var(variable)
    given = variable.to_state() if hasattr(nnx.variablelib, "VariableState") else variable
    assert leaves_of({"x": mine}) == leaves_of({"x": flax_conversions.to_linen_var(given)})


def test_collections_have_the_same_types():
    for collection in ("params", "batch_stats", "cache", "intermediates", "made_by_this_test"):
        mine = nnx_wrappers.to_nnx_var(collection, VALUE)
        assert type(mine) is type(flax_conversions.to_nnx_var(collection, VALUE))


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_whole_trees_both_ways(case):
    variables = case.build().init(
        {"params": case.rngs()["params"].key.value, "dropout": case.rngs()["dropout"].key.value},
        *case.args,
    )
    before = leaves_of(variables)
    back = nnx_wrappers.nnx_attrs_to_linen_vars(nnx_wrappers.linen_vars_to_nnx_attrs(variables))
    assert leaves_of(back) == before
    reference = flax_conversions.linen_vars_to_nnx_attrs(variables)
    assert leaves_of(back) == leaves_of(flax_conversions.nnx_attrs_to_linen_vars(reference))


def test_states_are_converted_as_modules_are():
    model = made(theirs, CASES["batch norm"])
    state = nnx.state(model, nnx.Not(nnx.RngState))
    variables = nnx_wrappers.nnx_attrs_to_linen_vars(state)
    assert set(variables) == {"params", "batch_stats"}
    assert bits(variables["batch_stats"]["mean"]) == bits(model.mean.value)


def test_create_hooks_leave_the_value():
    class Doubled(nnx.Variable):
        def on_create_value(self, value):
            return value * 2

    make = (
        getattr(nnx, "register_variable_name", None) or nnx.bridge.register_variable_name_type_pair
    )
    make("doubled", Doubled)
    variable = nnx_wrappers.to_nnx_var("doubled", VALUE)
    assert type(variable) is Doubled
    assert bits(variable.value) == bits(VALUE)


def test_a_path_in_two_collections_is_refused():
    with pytest.raises(ValueError, match="kernel"):
        nnx_wrappers.linen_vars_to_nnx_attrs(
            {"params": {"kernel": VALUE}, "batch_stats": {"kernel": VALUE}}
        )
