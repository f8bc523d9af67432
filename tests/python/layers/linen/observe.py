"""What a bridge did, in a form that `==` compares bit for bit."""

import collections.abc
import dataclasses
import typing as tp

import jax
import numpy as np
from flax import nnx


@dataclasses.dataclass(frozen=True)
class Raised:
    """The error that ended a run."""

    error: Exception


def outcome(run: tp.Callable[..., tp.Any], *args: tp.Any) -> tp.Any:
    """What `run(*args)` returns, or the error that it raises."""
    try:
        return run(*args)
    except Exception as error:
        return Raised(error)


def record(value: tp.Any) -> tp.Any:
    """A value with modules, Variables and arrays replaced by what they consist of."""
    if isinstance(value, nnx.Variable):
        return _variable(value)
    if isinstance(value, nnx.Pytree):
        return _module(value)
    leaves, structure = jax.tree.flatten(value, is_leaf=_is_node)
    return structure, [record(x) if _is_node(x) else _leaf(x) for x in leaves]


def _is_node(value: tp.Any) -> bool:
    return isinstance(value, nnx.Variable | nnx.Pytree)


def _leaf(value: tp.Any) -> tuple[tp.Any, ...]:
    if isinstance(value, jax.ShapeDtypeStruct):
        return ("abstract", value.shape, value.dtype, value.weak_type)
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return (type(value), value)
    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = np.asarray(jax.random.key_data(value))
        return ("key", value.shape, value.dtype, data.tobytes())
    weak = getattr(value, "weak_type", False)
    placed = getattr(value, "sharding", None)
    return (type(value), value.shape, value.dtype, weak, placed, np.asarray(value).tobytes())


def _variable(variable: nnx.Variable) -> tuple[tp.Any, ...]:
    return (type(variable), variable.get_metadata(), record(variable.get_raw_value()))


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
        return (type(value).__name__, flags, {k: _attributes(v) for k, v in children.items()})
    if isinstance(value, collections.abc.Mapping):
        return (type(value), {k: _attributes(v) for k, v in value.items()})
    return type(value)


def differences(theirs: tp.Any, mine: tp.Any, path: str = "") -> list[str]:
    """Where two records are not equal, one line for each place."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        lines = [f"{path}: only in one: {key}" for key in theirs.keys() ^ mine.keys()]
        both = [key for key in theirs if key in mine]
        return lines + _concat(differences(theirs[k], mine[k], f"{path}/{k}") for k in both)
    same_kind = isinstance(theirs, list | tuple) and type(theirs) is type(mine)
    if same_kind and len(theirs) == len(mine):
        pairs = enumerate(zip(theirs, mine, strict=True))
        return _concat(differences(x, y, f"{path}[{i}]") for i, (x, y) in pairs)
    if type(theirs) is not type(mine) or theirs != mine:
        return [f"{path}: expected {theirs!r:.200}, got {mine!r:.200}"]
    return []


def _concat(lists: tp.Iterable[list[str]]) -> list[str]:
    return [line for lines in lists for line in lines]


def assert_agree(
    theirs: tp.Any, mine: tp.Any, expected_error: type[Exception] | None = None
) -> None:
    """Fails unless both outcomes are equal, or both are errors of the expected type."""
    if expected_error is not None:
        assert_raised(theirs, expected_error)
        assert_raised(mine, expected_error)
        assert str(theirs.error) in str(mine.error), f"{theirs.error} has become {mine.error}"
        return
    for outcome_ in (theirs, mine):
        if isinstance(outcome_, Raised):
            raise outcome_.error
    found = differences(record(theirs), record(mine))
    if found:
        raise AssertionError("\n".join(found))


def assert_raised(outcome_: tp.Any, error: type[Exception]) -> None:
    """Fails unless the outcome is an error of this type."""
    assert isinstance(outcome_, Raised), f"no {error.__name__}"
    if not isinstance(outcome_.error, error):
        raise outcome_.error
