"""What a result is made of, in a form that `==` compares bit for bit."""

import collections.abc
import dataclasses
import functools
import types
import typing as tp

import jax
import numpy as np
from flax import nnx
from flax.core import FrozenDict, meta

# What was found equal; the summary of the test run prints it.
compared = {"results": 0, "leaves": 0}


@dataclasses.dataclass(frozen=True)
class Raised:
    """An exception, as the result of a call."""

    error: BaseException


def outcome(function: tp.Callable[..., tp.Any], *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
    """The value of a call, or the exception that it raised."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return Raised(error)


def _array(value: tp.Any) -> tuple[tp.Any, ...]:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return ("key", str(jax.random.key_impl(value)), _array(jax.random.key_data(value)))
    data = np.asarray(value)
    weak = getattr(value, "weak_type", False)
    return (type(value).__name__, data.shape, str(data.dtype), weak, data.tobytes())


def _mapping(value: tp.Mapping[tp.Any, tp.Any]) -> tuple[tp.Any, ...]:
    rows = [(repr(key), fingerprint(item)) for key, item in value.items()]
    return tuple(sorted(rows, key=lambda row: row[0]))


def _function(value: tp.Any) -> tp.Any:
    if isinstance(value, functools.partial):
        return ("partial", _function(value.func), fingerprint(value.args), _mapping(value.keywords))
    return (getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(type(value))))


def _leaf(value: tp.Any) -> tp.Any:
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _array(value)
    if isinstance(value, jax.ShapeDtypeStruct):
        return ("abstract", value.shape, str(value.dtype), value.weak_type)
    if isinstance(value, type):
        return ("type", value.__module__, value.__qualname__)
    if callable(value) and not isinstance(value, nnx.Variable | nnx.Pytree):
        return ("function", _function(value))
    if isinstance(value, int | float | complex | str | bytes | types.NoneType):
        return (type(value).__name__, repr(value))
    raise TypeError(f"no rule to compare a {type(value).__name__}")


def fingerprint(value: tp.Any) -> tp.Any:
    """Containers with their types, boxes and Variables with their metadata, arrays with
    dtype and bits. The order of a mapping's keys does not count."""
    if isinstance(value, Raised):
        return ("raised", type(value.error).__module__, type(value.error).__qualname__)
    if isinstance(value, nnx.bridge.NNXMeta):
        return ("box", value.var_type, fingerprint(value.value), _mapping(value.metadata))
    if isinstance(value, meta.AxisMetadata):
        return ("box", type(value).__qualname__, _mapping(vars(value)))
    if isinstance(value, nnx.Variable):
        raw = fingerprint(value.get_raw_value())
        return ("variable", value.var_type, raw, _mapping(value.get_metadata()))
    if isinstance(value, nnx.GraphDef):
        return ("graphdef", repr(value))
    if isinstance(value, nnx.Pytree):
        return (
            "node",
            type(value).__qualname__,
            _mapping(dict(nnx.to_flat_state(nnx.state(value)))),
        )
    if isinstance(value, collections.abc.Mapping):
        kind = "FrozenDict" if isinstance(value, FrozenDict) else type(value).__name__
        return (kind, _mapping(value))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(fingerprint(item) for item in value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return (type(value).__qualname__, _mapping(vars(value)))
    return _leaf(value)


def raised_in(value: tp.Any) -> list[Raised]:
    """The exceptions among results."""
    return [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, Raised)]


def assert_same(mine: tp.Any, reference: tp.Any) -> None:
    """Fails unless both results are the same, or both raised the same type."""
    equal = fingerprint(mine) == fingerprint(reference)
    assert equal, f"\nours:   {mine!r}\nFlax's: {reference!r}"
    compared["results"] += 1
    compared["leaves"] += len(jax.tree.leaves(reference))
