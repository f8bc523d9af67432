"""The comparison itself: what it has to tell apart, and what it has to take as equal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core import freeze

from .compare import Raised, assert_same, raised_in, record

DIFFERENT = {
    "bit": (jnp.float32(0.0), jnp.float32(-0.0)),
    "dtype": (jnp.zeros(2, jnp.float32), jnp.zeros(2, jnp.float16)),
    "shape": (jnp.zeros((2, 1)), jnp.zeros((1, 2))),
    "weak type": (jnp.asarray(1.0), jnp.asarray(1.0, jnp.float32)),
    "array library": (jnp.zeros(2), np.zeros(2, np.float32)),
    "key": (jax.random.key(0), jax.random.key(1)),
    "key and its data": (jax.random.key(0), jax.random.key_data(jax.random.key(0))),
    "path": ({"params": {"a": 1}}, {"params": {"b": 1}}),
    "missing path": ({"params": {"a": 1}}, {"params": {"a": 1, "b": 1}}),
    "collection": ({"params": {"a": 1}}, {"cache": {"a": 1}}),
    "mapping type": ({"a": 1}, freeze({"a": 1})),
    "sequence type": ([1], (1,)),
    "key type": ({0: 1}, {"0": 1}),
    "variable type": (nnx.Param(jnp.zeros(1)), nnx.Cache(jnp.zeros(1))),
    "variable metadata": (nnx.Param(jnp.zeros(1)), nnx.Param(jnp.zeros(1), note="n")),
    "box and value": (nnx.bridge.NNXMeta(nnx.Param, jnp.zeros(1), {}), jnp.zeros(1)),
    "box type": (
        nnx.bridge.NNXMeta(nnx.Param, jnp.zeros(1), {}),
        nnx.bridge.NNXMeta(nnx.Cache, jnp.zeros(1), {}),
    ),
    "box metadata": (
        nnx.bridge.NNXMeta(nnx.Param, jnp.zeros(1), {"note": "n"}),
        nnx.bridge.NNXMeta(nnx.Param, jnp.zeros(1), {"note": "m"}),
    ),
    "abstract dtype": (
        jax.ShapeDtypeStruct((1,), jnp.float32),
        jax.ShapeDtypeStruct((1,), jnp.int32),
    ),
    "function": (nnx.relu, nnx.tanh),
    "exception type": (Raised(KeyError("a")), Raised(ValueError("a"))),
    "exception and value": (Raised(KeyError("a")), None),
    "node state": (nnx.Rngs(0), nnx.Rngs(1)),
}

EQUAL = {
    "nan": (jnp.array([jnp.nan, 1.0]), jnp.array([jnp.nan, 1.0])),
    "order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "exception text": (Raised(KeyError("a")), Raised(KeyError("b"))),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_results_that_differ_are_told_apart(name: str) -> None:
    one, other = DIFFERENT[name]
    assert record(one) == record(one)
    assert record(one) != record(other)
    with pytest.raises(AssertionError, match="Flax's"):
        assert_same(one, other)


@pytest.mark.parametrize("name", EQUAL)
def test_results_that_are_the_same_are_equal(name: str) -> None:
    one, other = EQUAL[name]
    assert record(one) == record(other)


def test_exceptions_are_found_among_nested_results() -> None:
    error = Raised(KeyError("a"))
    assert raised_in({"a": [jnp.zeros(1), (error,)]}) == [error]
    assert raised_in(error) == [error]
    assert raised_in({"a": jnp.zeros(1)}) == []


def test_a_result_that_no_rule_covers_is_refused() -> None:
    with pytest.raises(TypeError, match="no rule"):
        record(object())
