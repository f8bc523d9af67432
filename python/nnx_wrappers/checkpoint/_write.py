"""Writes an Orbax checkpoint part by part: it appears whole, or not at all."""

import os
import shutil
import typing as tp
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import jax
import numpy as np

from nnx_wrappers.checkpoint import _batches
from nnx_wrappers.checkpoint._memory import give_back
from nnx_wrappers.checkpoint._names import Key, number_of_bytes, token
from nnx_wrappers.checkpoint._packages import orbax_v1
from nnx_wrappers.checkpoint._read import open_checkpoint
from nnx_wrappers.checkpoint._report import CheckpointError

LOCK = "lock"


@jax.tree_util.register_pytree_with_keys_class
class SomeOf:
    """Some entries of a sequence, which Orbax writes as entries of a list."""

    def __init__(self, entries: dict[int, tp.Any]) -> None:
        self.entries = entries

    def tree_flatten_with_keys(self) -> tuple[list[tuple[tp.Any, tp.Any]], tuple[int, ...]]:
        numbers = tuple(sorted(self.entries))
        return [(jax.tree_util.SequenceKey(i), self.entries[i]) for i in numbers], numbers

    @classmethod
    def tree_unflatten(cls, numbers: tuple[int, ...], values: Sequence[tp.Any]) -> "SomeOf":
        return cls(dict(zip(numbers, values, strict=True)))


def nested(values: Mapping[tuple[tp.Any, ...], tp.Any]) -> tp.Any:
    """A tree of these leaves by their key paths of JAX: dicts, and parts of sequences."""
    root: dict[tp.Any, tp.Any] = {}
    for path, value in values.items():
        level: dict[tp.Any, tp.Any] = root
        for entry in path[:-1]:
            level = level.setdefault(_slot(entry), {})
        level[_slot(path[-1])] = value
    return _typed(root)


def _slot(entry: tp.Any) -> tuple[bool, tp.Any]:
    if isinstance(entry, jax.tree_util.SequenceKey):
        return True, entry.idx
    return False, token(entry)


def _typed(level: tp.Any) -> tp.Any:
    if not isinstance(level, dict) or not level:
        return level
    made = {name: _typed(value) for (_, name), value in level.items()}
    return SomeOf(made) if next(iter(level))[0] else made


def checksum(value: tp.Any) -> int:
    """Of the bytes of an array; of a random key, of its numbers."""
    if isinstance(value, jax.Array) and jax.numpy.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    array = np.ascontiguousarray(value)
    return zlib.crc32(array.reshape(-1).view(np.uint8).data) if array.size else 0


class Destination:
    """A checkpoint in the making, in a folder beside it; what a killed run leaves, the next clears.

    Use it as a context: `write` parts of it, then `finish`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).absolute()
        self.work = self.path.parent / f".{self.path.name}.converting"
        self.cleared = False
        self._lock: int | None = None

    def __enter__(self) -> "Destination":
        if self.path.exists() or self.path.is_symlink():
            raise CheckpointError(f"{self.path} exists already; remove it, or write elsewhere")
        if not self.path.parent.is_dir():
            raise CheckpointError(f"there is no folder {self.path.parent} to write to")
        self.cleared = self.work.exists()
        self.work.mkdir(exist_ok=True)
        self._lock = os.open(self.work / LOCK, os.O_CREAT | os.O_RDWR)
        if not _locked(self._lock):
            os.close(self._lock)
            raise CheckpointError(f"another process is writing {self.path} now")
        for entry in self.work.iterdir():
            if entry.name != LOCK:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        return self

    def write(self, values: Mapping[tuple[tp.Any, ...], tp.Any]) -> None:
        """Adds leaves by their key paths; None is an empty node."""
        orbax_v1().partial.save(self.work / "checkpoint", nested(values))
        give_back()

    def finish(self, sums: Mapping[Key, int]) -> None:
        """Reads what was written back, compares, and moves it to its place at once."""
        orbax_v1().partial.finalize(self.work / "checkpoint")
        written = self.work / "checkpoint" / "state"
        found = open_checkpoint(written)
        wrong = sorted(set(found.found) ^ set(sums))
        sizes = {key: number_of_bytes(*found.found[key]) for key in sums if key in found.found}
        for batch in _batches.by_size(sizes):
            wrong += [
                key for key, value in found.read_many(batch).items() if checksum(value) != sums[key]
            ]
        if wrong:
            raise CheckpointError(
                f"{self.path} was not written: {'/'.join(wrong[0])} and {len(wrong) - 1} more "
                "leaves came back from the disk as others"
            )
        os.rename(written, self.path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)


def _locked(file: int) -> bool:
    """Whether this process has the lock now; it ends with the process."""
    try:
        import fcntl
    except ImportError:  # no such locks on Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
