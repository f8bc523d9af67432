"""Layers that one side has as a list and the other stacked, as `nn.scan` does.

The axis is found from the shapes of all leaves of a stack: `nn.scan` has one for a collection.
"""

from collections.abc import Iterable, Mapping

from nnx_wrappers.checkpoint import _expressions as ex
from nnx_wrappers.checkpoint._names import joined

Tree = Mapping[str, ex.Expression]
Shapes = Mapping[str, tuple[int, ...]]
Pair = tuple[tuple[int, ...], tuple[int, ...] | None]


def groups(listed: Iterable[str], stacked: Iterable[str]) -> dict[str, int]:
    """Prefixes P where one side has P/0/x, P/1/x, ... and the other P/y, with their number."""
    stacked = list(stacked)
    heads = {path[:end] for path in stacked for end in _slashes(path)}
    numbers: dict[str, set[int]] = {}
    for path in listed:
        parts = path.split("/")
        for i, part in enumerate(parts[:-1]):
            prefix = joined(parts[:i])
            if part.isdecimal() and prefix in heads:
                numbers.setdefault(prefix, set()).add(int(part))
    below = {prefix: any(_numbered(path, prefix) for path in stacked) for prefix in numbers}
    return {
        prefix: len(found)
        for prefix, found in numbers.items()
        if found == set(range(len(found))) and not below[prefix]
    }


def _slashes(path: str) -> list[int]:
    return [i for i, character in enumerate(path) if character == "/"]


def _numbered(path: str, prefix: str) -> bool:
    """Whether the path has a number right below the prefix."""
    return path.startswith(prefix + "/") and path[len(prefix) + 1 :].split("/")[0].isdecimal()


def axes(pairs: Iterable[Pair], length: int) -> list[int]:
    """The axes that fit all pairs of a stacked shape and one layer's; those of one effect once.

    One layer's shape is None where it has other parameters, as pairs of layers do.
    """
    pairs = list(pairs)
    rank = max((len(whole) for whole, _ in pairs), default=0)
    found: dict[tuple[int, ...], int] = {}
    for axis in (*range(rank), *range(-1, -rank - 1, -1)):
        places = [axis + len(whole) if axis < 0 else axis for whole, _ in pairs]
        fits = [
            0 <= place < len(whole)
            and whole[place] == length
            and one in (None, whole[:place] + whole[place + 1 :])
            for place, (whole, one) in zip(places, pairs, strict=True)
        ]
        if all(fits):
            found.setdefault(tuple(places), axis)
    return list(found.values())


def unstacked(source: Tree, target: Shapes, problems: dict[str, str]) -> dict[str, ex.Expression]:
    """Layers P/0/x, ... of a source that has them stacked as P/x."""
    made: dict[str, ex.Expression] = {}
    for prefix, length in groups(target, source).items():
        inside = {name: source[name] for name in source if name.startswith(prefix + "/")}
        rest = {name: name[len(prefix) + 1 :] for name in inside}
        pairs = [
            (value.shape, target.get(f"{prefix}/0/{rest[name]}")) for name, value in inside.items()
        ]
        axis = _one_axis(pairs, length, prefix, problems)
        if axis is None:
            continue
        for name, value in inside.items():
            fits = -len(value.shape) <= axis < len(value.shape) and value.shape[axis] == length
            if fits:
                for i in range(length):
                    made[f"{prefix}/{i}/{rest[name]}"] = ex.take(value, axis, i)
    return made


def stacked(source: Tree, target: Shapes, problems: dict[str, str]) -> dict[str, ex.Expression]:
    """P/x of a source that has the layers as P/0/x, P/1/x, ..."""
    made: dict[str, ex.Expression] = {}
    for prefix, length in groups(source, target).items():
        rests = {name[len(prefix) + 3 :] for name in source if name.startswith(f"{prefix}/0/")}
        pairs = [
            (
                shape,
                source[one].shape
                if (one := f"{prefix}/0/{name[len(prefix) + 1 :]}") in source
                else None,
            )
            for name, shape in target.items()
            if name.startswith(prefix + "/")
        ]
        axis = _one_axis(pairs, length, prefix, problems)
        if axis is None:
            continue
        for rest in rests:
            parts = [source.get(f"{prefix}/{i}/{rest}") for i in range(length)]
            present = [part for part in parts if part is not None]
            if len(present) != length or len({part.shape for part in present}) != 1:
                continue
            rank = len(present[0].shape)
            if -rank - 1 <= axis <= rank:
                made[f"{prefix}/{rest}"] = ex.stack(present, axis)
    return made


def _one_axis(
    pairs: list[Pair],
    length: int,
    prefix: str,
    problems: dict[str, str],
) -> int | None:
    of_one_name = [pair for pair in pairs if pair[1] is not None]
    fitting = axes(of_one_name or pairs, length)
    if len(fitting) > 1:
        problems[prefix] = (
            f"the axis on which {prefix} is stacked may be {' or '.join(map(str, fitting))}; "
            "say it by a rule `unstack` or `stack` with its axis"
        )
    return fitting[0] if len(fitting) == 1 else None
