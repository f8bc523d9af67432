"""What a leaf of the target is made of: leaves of the source, stacked, sliced or transposed.

Only shapes are computed here until `evaluate` is called. What undoes itself is simplified at once,
so that a rule and its inverse give back the very leaf that they began with.
"""

import dataclasses
import typing as tp
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from nnx_wrappers.checkpoint._names import Name

Read = Callable[[Name], tp.Any]


@dataclasses.dataclass(frozen=True)
class Expression:
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Source(Expression):
    """A leaf as it stands in the source."""

    name: Name


@dataclasses.dataclass(frozen=True)
class Part(Expression):
    """What stands at `start` of an axis; of length None it is one entry, without the axis."""

    of: Expression
    axis: int
    start: int
    length: int | None


@dataclasses.dataclass(frozen=True)
class Joined(Expression):
    """Parts beside each other on an axis, which is a new one if they are stacked."""

    parts: tuple[Expression, ...]
    axis: int
    stacked: bool


@dataclasses.dataclass(frozen=True)
class Transposed(Expression):
    of: Expression
    axes: tuple[int, ...]


def positive(axis: int, rank: int) -> int:
    found = axis + rank if axis < 0 else axis
    if not 0 <= found < rank:
        raise ValueError(f"there is no axis {axis} in {rank} axes")
    return found


def take(of: Expression, axis: int, index: int) -> Expression:
    """One entry of an axis, as `unstack` makes it."""
    axis = positive(axis, len(of.shape))
    if isinstance(of, Joined) and of.stacked and of.axis == axis:
        return of.parts[index]
    shape = of.shape[:axis] + of.shape[axis + 1 :]
    return Part(shape, of.dtype, of, axis, index, None)


def split(of: Expression, axis: int, sizes: Sequence[int]) -> list[Expression]:
    """Pieces of these sizes beside each other."""
    axis = positive(axis, len(of.shape))
    if sum(sizes) != of.shape[axis]:
        raise ValueError(f"{sum(sizes)} = sum of {list(sizes)} is not the length {of.shape[axis]}")
    if isinstance(of, Joined) and not of.stacked and of.axis == axis:
        same = [part.shape[axis] for part in of.parts] == list(sizes)
        if same:
            return list(of.parts)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [
        Part((*of.shape[:axis], n, *of.shape[axis + 1 :]), of.dtype, of, axis, start, n)
        for start, n in zip(starts, sizes, strict=True)
    ]


def stack(parts: Sequence[Expression], axis: int) -> Expression:
    """Parts of one shape on a new axis."""
    first = _alike(parts)
    axis = positive(axis, len(first.shape) + 1)
    whole = _whole(parts, axis, [None] * len(parts))
    if whole is not None:
        return whole
    shape = (*first.shape[:axis], len(parts), *first.shape[axis:])
    return Joined(shape, first.dtype, tuple(parts), axis, True)


def concat(parts: Sequence[Expression], axis: int) -> Expression:
    """Parts beside each other on an axis that they have."""
    axis = positive(axis, len(parts[0].shape))
    first = _alike(parts, axis)
    lengths = [part.shape[axis] for part in parts]
    whole = _whole(parts, axis, lengths)
    if whole is not None:
        return whole
    shape = (*first.shape[:axis], sum(lengths), *first.shape[axis + 1 :])
    return Joined(shape, first.dtype, tuple(parts), axis, False)


def transpose(of: Expression, axes: Sequence[int]) -> Expression:
    if sorted(axes) != list(range(len(of.shape))):
        raise ValueError(f"{list(axes)} does not permute the axes of the shape {of.shape}")
    if isinstance(of, Transposed):
        axes = [of.axes[axis] for axis in axes]
        of = of.of
    if list(axes) == sorted(axes):
        return of
    return Transposed(tuple(of.shape[axis] for axis in axes), of.dtype, of, tuple(axes))


def inverse_axes(axes: Sequence[int]) -> list[int]:
    return [list(axes).index(axis) for axis in range(len(axes))]


def _alike(parts: Sequence[Expression], free: int | None = None) -> Expression:
    """The first of the parts, which all have its dtype, and its shape but for one axis."""
    kinds = {(tuple(np.delete(p.shape, free)) if free is not None else p.shape) for p in parts}
    if len(kinds) != 1 or len({part.dtype for part in parts}) != 1:
        shown = sorted({f"{part.dtype}{list(part.shape)}" for part in parts})
        raise ValueError(f"the parts are of different shapes or dtypes: {', '.join(shown)}")
    return parts[0]


def _whole(
    parts: Sequence[Expression], axis: int, lengths: Sequence[int | None]
) -> Expression | None:
    """What the parts are all of, in order and without gaps, if they are."""
    first = parts[0]
    if not isinstance(first, Part):
        return None
    start = 0
    for part, length in zip(parts, lengths, strict=True):
        found = (part.of, part.axis, part.start, part.length) if isinstance(part, Part) else None
        if found != (first.of, axis, start, length):
            return None
        start += 1 if length is None else length
    return first.of if start == first.of.shape[axis] else None


def sources(of: Expression) -> Iterator[Source]:
    """The leaves that it is made of."""
    if isinstance(of, Source):
        yield of
    elif isinstance(of, Joined):
        for part in of.parts:
            yield from sources(part)
    elif isinstance(of, Part | Transposed):
        yield from sources(of.of)


def in_role(of: Expression, role: str) -> Expression:
    """The same of the leaves that another role has at these paths."""
    if isinstance(of, Source):
        return dataclasses.replace(of, name=Name(role, of.name.path))
    if isinstance(of, Joined):
        return dataclasses.replace(of, parts=tuple(in_role(part, role) for part in of.parts))
    assert isinstance(of, Part | Transposed)
    return dataclasses.replace(of, of=in_role(of.of, role))


def evaluate(of: Expression, read: Read) -> tp.Any:
    """Its value; arrays of JAX stay such, with their sharding where nothing is computed."""
    if isinstance(of, Source):
        return read(of.name)
    if isinstance(of, Part):
        index: list[tp.Any] = [slice(None)] * len(of.of.shape)
        stop = None if of.length is None else of.start + of.length
        index[of.axis] = of.start if stop is None else slice(of.start, stop)
        return evaluate(of.of, read)[tuple(index)]
    if isinstance(of, Transposed):
        value = evaluate(of.of, read)
        return _numpy(value).transpose(value, of.axes)
    assert isinstance(of, Joined)
    values = [evaluate(part, read) for part in of.parts]
    module = _numpy(values[0])
    combine = module.stack if of.stacked else module.concatenate
    return combine(values, axis=of.axis)


def _numpy(value: tp.Any) -> tp.Any:
    return jnp if isinstance(value, jax.Array) else np
