"""Keys of plans and conversions: what must be told apart, and code that runs in a look-up."""

import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from flax.core import meta
from flax.nnx import variablelib

from oracle import assert_same, ours, theirs

pytestmark = pytest.mark.usefixtures("fresh_caches")

X = jnp.arange(6.0).reshape(2, 3)


class Holds(nnx.Module):
    """Says what its argument is."""

    def __init__(self, value, rngs=None):
        self.text = repr(value() if callable(value) else value)

    def __call__(self):
        return self.text


def says(value):
    return ours.ToLinen(Holds, args=(value,)).apply({})


class Clears:
    """Clears the caches while it is looked up."""

    on = False

    def __hash__(self):
        return 7

    def __eq__(self, other):
        if Clears.on:
            ours.clear_caches()
        return type(other) is Clears

    def __repr__(self):
        return "Clears()"


def test_caches_may_be_cleared_while_a_key_is_looked_up():
    Clears.on = False
    says(Clears())
    Clears.on = True
    try:
        for _ in range(3):
            assert says(Clears()) == "Clears()"
    finally:
        Clears.on = False


def test_empty_containers_are_told_apart():
    for _ in range(2):
        assert says(()) == "()"
        assert says({}) == "FrozenDict({})"


def test_a_tuple_never_passes_for_a_key_of_another_kind():
    for argument, expected in (([1, 2], "2"), (("list", (1, 2)), "3")):
        assert (
            says(functools.partial(lambda a: len(a) + isinstance(a, tuple), argument)) == expected
        )


def test_equal_code_with_other_globals_is_told_apart():
    source = "def make(a):\n  def function():\n    return G + a\n  return function\n"
    for value in (1, 2):
        names = {"G": value}
        exec(source, names)
        assert says(names["make"](10)) == str(value + 10)


def test_a_key_keeps_no_class_alive_that_a_function_closes_over():
    def make():
        class Local:
            pass

        return (lambda: Local.__name__), weakref.ref(Local)

    function, reference = make()

    assert says(function) == "'Local'"
    del function
    gc.collect()
    assert reference() is None


def test_an_empty_level_is_no_conflict():
    variables = {"batch_stats": {"a": jnp.ones(1)}, "params": {"a": {"b": {}}, "c": jnp.ones(1)}}
    mine, reference = (b.linen_vars_to_nnx_attrs(variables) for b in (ours, theirs.variables))
    assert_same(mine, reference)


def test_an_empty_collection_registers_no_type():
    ours.linen_vars_to_nnx_attrs({"keys_test_unknown": {}})
    assert "keys_test_unknown" not in variablelib.VariableTypeCache


class Box:
    """A box that is none by inheritance."""

    def __init__(self, value):
        self.value = value

    def unbox(self):
        return self.value


meta.AxisMetadata.register(Box)


def test_boxes_that_are_registered_as_such_are_opened():
    params = ours.ToLinen(nnx.Linear, args=(3, 2)).init(jax.random.key(0), X)["params"]
    boxed = {"params": {**params, "kernel": Box(params["kernel"])}}
    assert_same(
        ours.ToLinen(nnx.Linear, args=(3, 2)).apply(boxed, X),
        theirs.ToLinen(nnx.Linear, args=(3, 2)).apply(boxed, X),
    )
