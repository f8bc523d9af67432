"""What a checkpoint holds, from its metadata."""

import dataclasses
import typing as tp
from collections.abc import Sequence
from pathlib import Path

from nnx_wrappers.checkpoint import _load, _names
from nnx_wrappers.checkpoint._names import ANY, EMA, OPT, Leaf
from nnx_wrappers.checkpoint._read import open_checkpoint


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What a checkpoint holds: `format`, `kind` ("linen" or "nnx"), `leaves` and their `groups`.

    A group is a collection, the state of the optimizer, the average or the random streams, with the
    number of its leaves and their bytes.
    """

    path: str
    format: str
    kind: str
    leaves: list[Leaf]
    groups: dict[str, tuple[int, int]]

    def as_dict(self) -> dict[str, tp.Any]:
        """The inspection as JSON can hold it."""
        groups = {name: {"leaves": n, "bytes": size} for name, (n, size) in self.groups.items()}
        leaves = [
            {
                "key": list(leaf.key),
                "group": group_of(leaf),
                "path": leaf.name.path,
                "shape": list(leaf.shape),
                "dtype": leaf.dtype,
            }
            for leaf in self.leaves
        ]
        return {
            "path": self.path,
            "format": self.format,
            "kind": self.kind,
            "groups": groups,
            "leaves": leaves,
        }

    def __str__(self) -> str:
        rows = [("group", "leaves", "bytes")]
        rows += [(name, str(n), size_text(size)) for name, (n, size) in self.groups.items()]
        shown = [leaf for leaf in self.leaves if group_of(leaf) not in (OPT, EMA)]
        more = [("leaf", "shape", "dtype")]
        more += [(_names.joined(leaf.key), str(list(leaf.shape)), leaf.dtype) for leaf in shown]
        lines = [f"{self.path}: {self.format}, {self.kind}, {len(self.leaves)} leaves"]
        return "\n".join([*lines, "", *columns(rows), "", *columns(more)])


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of texts in columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def size_text(size: int) -> str:
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def group_of(leaf: Leaf) -> str:
    role = leaf.name.role
    if role.startswith(OPT):
        return OPT
    return "model" if role == ANY else role


def inspect_checkpoint(path: str | Path) -> Inspection:
    """Says what a checkpoint holds, without reading its arrays.

    Arguments:
      path: as the source of `convert_checkpoint`.

    Returns:
      Its `format`, `kind`, `leaves` and `groups`; `print` shows a table of it.

    Raises:
      CheckpointError: a `ValueError`, if it cannot be read.

    It changes nothing, so threads may call it at once.

    Example:
      >>> import tempfile
      >>> from pathlib import Path
      >>> import jax.numpy as jnp
      >>> from flax import serialization
      >>> from nnx_wrappers import inspect_checkpoint
      >>> file = Path(tempfile.mkdtemp()) / "checkpoint"
      >>> _ = file.write_bytes(serialization.to_bytes({"params": {"w": jnp.ones((3, 2))}}))
      >>> found = inspect_checkpoint(file)
      >>> found.format, found.kind, found.groups
      ('flax.serialization msgpack', 'linen', {'params': (1, 24)})
    """
    found = open_checkpoint(path)
    side = _load.side_of(found.found)
    rng = {leaf.key for leaf in side.rng}
    keys = {leaf.key: leaf for leaf in (*side.leaves.values(), *side.rng)}
    groups: dict[str, tuple[int, int]] = {}
    for key, leaf in keys.items():
        name = "rng" if key in rng else group_of(leaf)
        count, size = groups.get(name, (0, 0))
        groups[name] = (count + 1, size + leaf.size)
    return Inspection(str(path), found.format, side.kind, list(keys.values()), groups)
