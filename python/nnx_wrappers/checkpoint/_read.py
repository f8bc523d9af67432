"""Finds out what a path holds, and opens it."""

import re
import typing as tp
from collections.abc import Iterable
from pathlib import Path

from nnx_wrappers.checkpoint._msgpack import MsgpackCheckpoint
from nnx_wrappers.checkpoint._names import Key
from nnx_wrappers.checkpoint._orbax import METADATA, OrbaxCheckpoint
from nnx_wrappers.checkpoint._report import CheckpointError

UNFINISHED = (".orbax-checkpoint-tmp", ".partial_save", ".converting")
STEP = re.compile(r"(?:.*_)?(\d+)")
ALONE = ("default", "state", "pytree", "items")  # names of items that stand for the whole


class Checkpoint(tp.Protocol):
    """A checkpoint on disk: its leaves by their metadata, and values when they are asked for."""

    format: str
    found: dict[Key, tuple[tuple[int, ...], str]]

    def read_many(self, keys: Iterable[Key]) -> dict[Key, tp.Any]: ...


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Opens an Orbax checkpoint, one of its steps, or a file of msgpack."""
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    if any(mark in path.name for mark in UNFINISHED):
        raise CheckpointError(f"{path} was not finished when it was written; take the one before")
    if path.is_file():
        return MsgpackCheckpoint(path)
    items = _items(path)
    if items:
        form = "Orbax" if list(items) == [""] else "Orbax composite"
        return OrbaxCheckpoint(path, items, form)
    return _latest_step(path)


def _items(path: Path) -> dict[str, Path]:
    """The trees of one checkpoint by the names of the items; a lone one has no name."""
    if (path / METADATA).is_file():
        return {"": path}
    if not (path / "_CHECKPOINT_METADATA").exists() and not (path / "orbax.checkpoint").exists():
        steps = [STEP.fullmatch(entry.name) for entry in path.iterdir() if entry.is_dir()]
        if any(steps):
            return {}
    items = {e.name: e for e in sorted(path.iterdir()) if (e / METADATA).is_file()}
    if len(items) == 1 and next(iter(items)) in ALONE:
        return {"": next(iter(items.values()))}
    return items


def _latest_step(path: Path) -> Checkpoint:
    """The newest step in a folder of them, as CheckpointManager and Flax's checkpoints write it."""
    steps: dict[int, Path] = {}
    for entry in path.iterdir():
        match = STEP.fullmatch(entry.name)
        if match and not any(mark in entry.name for mark in UNFINISHED):
            steps[int(match[1])] = entry
    if not steps:
        raise CheckpointError(
            f"{path} is no checkpoint: it has neither {METADATA} of Orbax nor steps"
        )
    newest = max(steps)
    found = open_checkpoint(steps[newest])
    found.format += f", step {newest} of {len(steps)}"
    return found
