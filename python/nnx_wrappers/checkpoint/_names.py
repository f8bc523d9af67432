"""Leaves of a tree by their metadata, and the names that a leaf goes by.

A leaf of a model has a *role*, which is its collection, its place in the state of the optimizer
(`opt_state/1/0/mu`) or a name such as `step`, and a *path*, which is its place in the model. So a
parameter, its moments and its average have one path in several roles, and what is known of the path
holds for all of them.
"""

import dataclasses
import re
import typing as tp
from collections import Counter
from collections.abc import Iterable, Mapping

import jax

Key = tuple[str, ...]

ANY = "*"  # the collection is not known, since an NNX state on disk does not say it
EMA = "ema"
OPT = "opt_state"
STEP = "step"
NUMBERED = re.compile(r"(.+)_(\d+)")


class Name(tp.NamedTuple):
    """What a leaf is called: its role, and its path in the model ('' if it has none)."""

    role: str
    path: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part not in ("", ANY))


@dataclasses.dataclass(frozen=True)
class Leaf:
    """An array of a tree: where it stands there, and what it is."""

    key: Key
    shape: tuple[int, ...]
    dtype: str
    name: Name

    @property
    def size(self) -> int:
        """The bytes of its values; those of a key are not known."""
        return number_of_bytes(self.shape, self.dtype)


def number_of_bytes(shape: tuple[int, ...], dtype: str) -> int:
    try:
        size = jax.numpy.dtype(dtype).itemsize
    except TypeError:  # the dtype of random keys
        size = 8
    for length in shape:
        size *= length
    return size


def token(entry: tp.Any) -> str:
    """The text of one entry of a key path of JAX."""
    for attribute in ("key", "idx", "name"):
        if hasattr(entry, attribute):
            return str(getattr(entry, attribute))
    return str(entry)


def key_of(path: Iterable[tp.Any]) -> Key:
    return tuple(token(entry) for entry in path)


def joined(key: Iterable[str]) -> str:
    return "/".join(key)


def without_value(keys: Iterable[Key]) -> dict[Key, Key]:
    """Each key without the `value` of a Variable or of a box at its end.

    Only where `value` stands alone: a module may have a parameter of that name beside others.
    """
    short = {key: key for key in keys}
    while True:
        siblings = Counter(key[:-1] for key in short.values())
        taken = set(short.values())
        shorter = {
            key: now[:-1]
            for key, now in short.items()
            if len(now) > 1 and now[-1] == "value" and siblings[now[:-1]] == 1
            if now[:-1] not in taken
        }
        if not shorter:
            return short
        short |= shorter


def canonical(path: str) -> str:
    """A path in which `layers_0` and `layers/0` are one."""
    parts: list[str] = []
    for part in path.split("/"):
        numbered = NUMBERED.fullmatch(part)
        parts += numbered.groups() if numbered else [part]
    return joined(parts)


def split_optimizer(keys: Iterable[Key], parameters: Iterable[Key]) -> dict[Key, Name]:
    """Names of leaves of an optimizer: `1/0/mu/a/kernel` is `a/kernel` in the role `1/0/mu`.

    A leaf of the optimizer belongs to a parameter if it ends in that one's key. Where several
    endings fit, the role counts that holds the most parameters.
    """
    known = set(parameters)
    longest = max((len(key) for key in known), default=0)
    choices: dict[Key, list[int]] = {}
    held: Counter[Key] = Counter()
    for key in keys:
        starts = range(max(0, len(key) - longest), len(key))
        choices[key] = [start for start in starts if key[start:] in known]
        held.update(key[:start] for start in choices[key])
    names = {}
    for key, starts_of in choices.items():
        if starts_of:
            start = max(starts_of, key=lambda s: held[key[:s]])
            names[key] = Name(joined((OPT, *key[:start])), joined(key[start:]))
        else:
            names[key] = Name(joined((OPT, *key)), "")
    return names


def flat(tree: tp.Any) -> dict[Key, tp.Any]:
    """The leaves of a tree by their keys as texts; what holds no array has none."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    found = {key_of(path): leaf for path, leaf in leaves}
    if len(found) != len(leaves):
        raise ValueError(
            "two keys of the tree have one text, such as 0 and '0'; rename one of them"
        )
    return found


def described(value: tp.Any) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of an array, of its abstract stand-in or of a number."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        value = jax.numpy.asarray(value)
    return tuple(value.shape), str(value.dtype)


def shapes_of(values: Mapping[Key, tp.Any]) -> dict[Key, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each leaf; one that is no array is an error with its path."""
    found = {}
    for key, value in values.items():
        try:
            found[key] = described(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"the leaf {joined(key)} is a {type(value).__name__}; expected an array or a number"
            ) from None
    return found


def duplicates(leaves: Iterable[Leaf]) -> Mapping[Name, int]:
    counts = Counter(leaf.name for leaf in leaves)
    return {name: count for name, count in counts.items() if count > 1}
