"""Orbax's checkpoints, of which only the leaves that are asked for are restored."""

import logging
import typing as tp
import warnings
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np

from nnx_wrappers.checkpoint import _names
from nnx_wrappers.checkpoint._memory import give_back
from nnx_wrappers.checkpoint._names import Key
from nnx_wrappers.checkpoint._packages import orbax
from nnx_wrappers.checkpoint._report import CheckpointError

METADATA = "_METADATA"


class OrbaxCheckpoint:
    """The leaves of a tree, or of several beside each other, each an item of the checkpoint."""

    def __init__(self, path: Path, items: dict[str, Path], form: str) -> None:
        self.path = path
        self.format = form
        self.found: dict[Key, tuple[tuple[int, ...], str]] = {}
        self._items: dict[Key, _Item] = {}
        logging.getLogger("absl").addFilter(_quiet)
        for name, folder in items.items():
            item = _Item(folder)
            for key, shape in item.found.items():
                whole = (name, *key) if name else key
                self.found[whole] = shape
                self._items[whole] = item
        if not self.found:
            raise CheckpointError(f"{path} has no array in it")

    def read_many(self, keys: Iterable[Key]) -> dict[Key, tp.Any]:
        """Values of these leaves; each item is restored once."""
        by_item: dict[int, list[Key]] = {}
        keys = list(keys)
        for key in keys:
            by_item.setdefault(id(self._items[key]), []).append(key)
        values: dict[Key, tp.Any] = {}
        for mine in by_item.values():
            item = self._items[mine[0]]
            start = len(mine[0]) - item.length_of(mine[0])
            read = item.read([key[start:] for key in mine])
            values |= dict(zip(mine, read, strict=True))
        give_back()
        return values


def _quiet(record: logging.LogRecord) -> bool:
    return "Tensorflow library not found" not in record.getMessage()


class _Item:
    """One tree of a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.ocp = orbax()
        self.handler = self.ocp.PyTreeCheckpointHandler()
        try:
            self.tree = self.handler.metadata(self.folder).tree
        except Exception as error:  # a damaged checkpoint raises errors of many kinds
            raise _damaged(folder, error) from None
        leaves, self.structure = jax.tree_util.tree_flatten_with_path(self.tree)
        self.keys = [_names.key_of(path) for path, _ in leaves]
        self.metadata = dict(zip(self.keys, (leaf for _, leaf in leaves), strict=True))
        self.found = {
            key: (tuple(leaf.shape), str(np.dtype(leaf.dtype)))
            for key, leaf in self.metadata.items()
            if getattr(leaf, "dtype", None) is not None and hasattr(leaf, "shape")
        }

    def length_of(self, key: Key) -> int:
        """How many parts of the key are of this item, and not the name of it."""
        return len(key) if key in self.metadata else len(key) - 1

    def read(self, keys: list[Key]) -> list[tp.Any]:
        wanted = set(keys)
        holes = [0 if key in wanted else self.ocp.PLACEHOLDER for key in self.keys]
        how = [self._how(key) for key in self.keys]
        arguments = self.ocp.args.PyTreeRestore(
            item=jax.tree.unflatten(self.structure, holes),
            restore_args=jax.tree.unflatten(self.structure, how),
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # keys bring their own sharding
                restored = self.handler.restore(self.folder, args=arguments)
        except Exception as error:  # as above
            raise _damaged(self.folder, error) from None
        values = dict(zip(self.keys, jax.tree.leaves(restored), strict=True))
        return [values[key] for key in keys]

    def _how(self, key: Key) -> tp.Any:
        """How to restore a leaf: spread as it was if its devices are there, else on the host."""
        sharding = getattr(self.metadata[key], "sharding", None)
        if key[-1:] == ("key",) or key[-2:] == ("key", "value"):
            return self.ocp.RestoreArgs()  # these may be random keys, which NumPy has not
        if sharding is not None and hasattr(sharding, "partition_spec"):
            try:
                return self.ocp.ArrayRestoreArgs(sharding=sharding.to_jax_sharding())
            except (ValueError, RuntimeError):  # saved on other devices
                pass
        return self.ocp.RestoreArgs(restore_type=np.ndarray)


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    text = " ".join(str(error).split())
    text = text if len(text) < 300 else text[:300] + "..."
    return CheckpointError(
        f"{folder} cannot be read as an Orbax checkpoint, it may be damaged or incomplete: "
        f"{type(error).__name__}: {text}"
    )
