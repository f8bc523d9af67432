"""What a bridge did, in a form that `==` compares bit for bit."""

import collections.abc
import dataclasses
import types
import typing as tp

import jax
import numpy as np
from flax import nnx

Bridge = types.ModuleType  # nnx_wrappers or flax.nnx.bridge

# What was found equal; the summary of the test run prints it.
compared = {"results": 0, "leaves": 0}


@dataclasses.dataclass(frozen=True)
class Raised:
    """The error that ended a call, as its result."""

    error: Exception


def outcome(run: tp.Callable[..., tp.Any], *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
    """What a call returns, or the error that it raises."""
    try:
        return run(*args, **kwargs)
    except Exception as error:
        return Raised(error)


def raised_in(value: tp.Any) -> list[Raised]:
    """The errors among results."""
    return [leaf for leaf in jax.tree.leaves(value) if isinstance(leaf, Raised)]


def record(value: tp.Any) -> tp.Any:
    """A value with modules, Variables, boxes and arrays replaced by what they consist of."""
    if isinstance(value, nnx.Variable):
        return ("variable", type(value), value.get_metadata(), record(value.get_raw_value()))
    if isinstance(value, nnx.bridge.NNXMeta):  # ours is a subclass
        return ("box", value.var_type, value.metadata, record(value.value))
    if isinstance(value, nnx.GraphDef):
        return ("graphdef", repr(value))
    if isinstance(value, nnx.Pytree):
        return _module(value)
    leaves, structure = jax.tree_util.tree_flatten_with_path(value, is_leaf=_is_node)
    recorded = {
        jax.tree_util.keystr(path): record(leaf) if _is_node(leaf) else _leaf(leaf)
        for path, leaf in leaves
    }
    return {"structure": structure, "leaves": recorded}


def _is_node(value: tp.Any) -> bool:
    return isinstance(value, nnx.Variable | nnx.bridge.NNXMeta | nnx.GraphDef | nnx.Pytree)


def _leaf(value: tp.Any) -> tuple[tp.Any, ...]:
    if isinstance(value, Raised):
        return ("raised", type(value.error))
    if isinstance(value, jax.ShapeDtypeStruct):
        return ("abstract", value.shape, value.dtype, value.weak_type)
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return _array(value)
    if isinstance(value, float | complex):
        return (type(value), repr(value))  # 0.0 is not -0.0
    if type(value).__eq__ is object.__eq__ and not callable(value):
        raise TypeError(f"no rule to compare a {type(value).__name__}")
    return (type(value), value)


def _array(value: tp.Any) -> tuple[tp.Any, ...]:
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(value))
        return ("key", value.shape, value.dtype, data.tobytes())
    weak = getattr(value, "weak_type", False)
    placed = getattr(value, "sharding", None)
    return (type(value), value.shape, value.dtype, weak, placed, np.asarray(value).tobytes())


def _module(module: nnx.Pytree) -> dict[str, tp.Any]:
    flat = nnx.to_flat_state(nnx.state(module))
    return {
        "state": {path: record(variable) for path, variable in flat},
        "attributes": _attributes(module),
    }


def _attributes(value: tp.Any) -> tp.Any:
    """The containers that a module is made of: names, kinds, flags."""
    if isinstance(value, nnx.Variable):
        return type(value)
    if isinstance(value, nnx.Pytree):
        children = {k: v for k, v in vars(value).items() if k != "_pytree__state"}
        state = value._pytree__state
        flags = (state.initializing, state.is_setup)
        # In `init` ours holds a subclass, which falls back to the stream `params`.
        kind = nnx.Rngs if isinstance(value, nnx.Rngs) else type(value)
        return (kind.__name__, flags, {k: _attributes(v) for k, v in children.items()})
    if isinstance(value, collections.abc.Mapping):
        return (type(value), {k: _attributes(v) for k, v in value.items()})
    return type(value)


def differences(mine: tp.Any, reference: tp.Any, path: str = "") -> list[str]:
    """Where two records are not equal, one line for each place."""
    if isinstance(reference, dict) and isinstance(mine, dict):
        lines = [f"{path}: only Flax's: {key}" for key in reference.keys() - mine.keys()]
        lines += [f"{path}: only ours: {key}" for key in mine.keys() - reference.keys()]
        both = [key for key in reference if key in mine]
        return lines + _concat(differences(mine[k], reference[k], f"{path}/{k}") for k in both)
    same_kind = isinstance(reference, list | tuple) and type(reference) is type(mine)
    if same_kind and len(reference) == len(mine):
        pairs = enumerate(zip(mine, reference, strict=True))
        return _concat(differences(x, y, f"{path}[{i}]") for i, (x, y) in pairs)
    if type(reference) is not type(mine) or reference != mine:
        return [f"{path}: Flax's {reference!r:.200}, ours {mine!r:.200}"]
    return []


def _concat(lists: tp.Iterable[list[str]]) -> list[str]:
    return [line for lines in lists for line in lines]


def assert_same(mine: tp.Any, reference: tp.Any) -> None:
    """Fails unless both results are the same, or both raised the same type."""
    found = differences(record(mine), record(reference))
    if found:
        raise AssertionError("\n".join(found))
    compared["results"] += 1
    compared["leaves"] += len(jax.tree.leaves(reference))


def assert_raised(result: tp.Any, error: type[Exception]) -> None:
    """Fails unless the result is an error of this type."""
    assert isinstance(result, Raised), f"no {error.__name__}"
    if not isinstance(result.error, error):
        raise result.error


def assert_agree(
    mine: tp.Any, reference: tp.Any, expected_error: type[Exception] | None = None
) -> None:
    """Fails unless both results are the same, and no errors; or both are errors of the expected
    type, and ours says what Flax's says."""
    if expected_error is not None:
        assert_raised(reference, expected_error)
        assert_raised(mine, expected_error)
        assert str(reference.error) in str(mine.error), f"{reference.error} became {mine.error}"
        return
    for result in (reference, mine):
        if isinstance(result, Raised):
            raise result.error
    assert_same(mine, reference)
