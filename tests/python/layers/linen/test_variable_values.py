"""What Linen modules keep in variables: trees, Python values, empty and odd containers."""

import collections
import types
import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict
from flax.errors import ScopeCollectionNotFound

import nnx_wrappers

from ..compare import Bridge, assert_agree, assert_raised, outcome, record
from .case import floats

X = floats(3)


class Holder(nn.Module):
    """Keeps one value in a collection of its own, and returns it."""

    make: tp.Callable[[], tp.Any]

    @nn.compact
    def __call__(self) -> tp.Any:
        return self.variable("holder", "v", self.make).value


class MyDict(dict[str, tp.Any]):
    """A dict that JAX does not know."""


VALUES: dict[str, tp.Callable[[], tp.Any]] = {
    "None": lambda: None,
    "int": lambda: 3,
    "str": lambda: "text",
    "bytes": lambda: b"text",
    "function": lambda: jnp.sin,
    "set": lambda: {1, 2},
    "NumPy scalar": lambda: np.float32(3),
    "NumPy array": lambda: np.ones(2),
    "ShapeDtypeStruct": lambda: jax.ShapeDtypeStruct((2,), jnp.float32),
    "key": lambda: jax.random.key(1),
    "keys of another kind": lambda: jax.random.split(jax.random.key(1, impl="rbg")),
    "list of dicts": lambda: [{"a": X}],
    "partial": lambda: jax.tree_util.Partial(jnp.sin, X),
    "dict out of order": lambda: {"b": X, "a": X},
    "dict with int keys": lambda: {0: X, 1: {2: X}},
    "dict with an empty dict": lambda: {"a": {}, "b": X},
    "OrderedDict": lambda: collections.OrderedDict(b=X, a=X),
    "defaultdict": lambda: collections.defaultdict(list, {"a": X}),
    "mappingproxy": lambda: types.MappingProxyType({"a": X}),
    "nnx.State": lambda: nnx.State({"a": X}),
    "nnx.State of Variables": lambda: nnx.State({"a": nnx.Param(X)}),
    "nnx.Variable": lambda: nnx.Param(X),
}

REFUSED: dict[str, tuple[tp.Callable[[], tp.Any], type[Exception]]] = {
    "empty dict": (lambda: {}, ScopeCollectionNotFound),
    "keys without an order": (lambda: {0: X, "a": X}, ValueError),
}

# Linen freezes and thaws the dicts inside variables itself, and a dict subclass is
# a dict to it. Flax's bridge takes them for leaves and then loses its way.
ONLY_OURS: dict[str, tp.Callable[[], tp.Any]] = {
    "FrozenDict": lambda: FrozenDict({"a": X}),
    "FrozenDict in a dict": lambda: {"a": FrozenDict({"b": X})},
    "subclass of dict": lambda: MyDict(a=X),
}


def _run(bridge: Bridge, make: tp.Callable[[], tp.Any]) -> tp.Any:
    module = bridge.ToNNX(Holder(make), rngs=nnx.Rngs(0)).lazy_init()
    made = nnx.clone(module)
    return made, module(mutable=["holder"]), module(mutable=False), module


@pytest.mark.parametrize("kind", VALUES)
def test_a_variable_keeps_a_value_of_this_kind_as_in_flax(kind: str) -> None:
    reference = outcome(_run, nnx.bridge, VALUES[kind])
    assert_agree(outcome(_run, nnx_wrappers, VALUES[kind]), reference)


@pytest.mark.parametrize("kind", REFUSED)
def test_a_value_of_this_kind_is_an_error_as_in_flax(kind: str) -> None:
    make, error = REFUSED[kind]
    assert_agree(outcome(_run, nnx_wrappers, make), outcome(_run, nnx.bridge, make), error)


@pytest.mark.parametrize("kind", ONLY_OURS)
def test_a_dict_of_any_class_is_a_tree_of_variables(kind: str) -> None:
    make = ONLY_OURS[kind]
    assert_raised(outcome(_run, nnx.bridge, make), Exception)
    made, updated, frozen, module = _run(nnx_wrappers, make)
    plain = Holder(make).init(jax.random.key(0))["holder"]["v"]
    leaves = jax.tree.leaves(dict(plain))
    for tree in (updated, frozen, *(nnx.state(m, nnx.Not(nnx.RngState)) for m in (made, module))):
        assert record(jax.tree.leaves(dict(tree))) == record(leaves)
