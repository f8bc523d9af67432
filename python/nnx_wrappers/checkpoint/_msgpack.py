"""Checkpoints of `flax.serialization`: one file of msgpack, read leaf by leaf."""

import typing as tp
from pathlib import Path

from nnx_wrappers.checkpoint import _names
from nnx_wrappers.checkpoint._names import Key
from nnx_wrappers.checkpoint._packages import package, serialization
from nnx_wrappers.checkpoint._report import CheckpointError

CHUNKED = "__msgpack_chunked_array__"  # how Flax writes arrays of more than a gigabyte


class MsgpackCheckpoint:
    """The leaves of a file; it is read through once for their shapes, and one by one for values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.format = "flax.serialization msgpack"
        self.found: dict[Key, tuple[tuple[int, ...], str]] = {}
        self._places: dict[Key, tuple[int, int]] = {}
        self._restore = serialization().msgpack_restore
        unpacker = package("msgpack", "a msgpack checkpoint").Unpacker
        with path.open("rb") as file:
            size = path.stat().st_size
            stream = unpacker(file, raw=False, strict_map_key=False, max_buffer_size=max(size, 1))
            try:
                self._scan(stream, ())
                end = stream.tell()
            except Exception as error:  # what is no msgpack raises errors of many kinds
                raise CheckpointError(
                    f"{path} is no msgpack checkpoint of Flax, or is cut off: "
                    f"{type(error).__name__}: {error}"
                ) from None
        if end != size or not self.found:
            raise CheckpointError(
                f"{path} is no msgpack checkpoint of Flax: {end} of its {size} bytes "
                f"hold {len(self.found)} arrays"
            )

    def _scan(self, stream: tp.Any, key: Key) -> None:
        """Notes where the leaves below this place begin and end."""
        start = stream.tell()
        try:
            length = stream.read_map_header()
        except ValueError:  # it is no map: a leaf
            stream.skip()
            self._note(key, start, stream.tell())
            return
        for _ in range(length):
            name = stream.unpack()
            if name == CHUNKED:
                for _ in range(2 * length - 1):
                    stream.skip()
                self._note(key, start, stream.tell())
                return
            self._scan(stream, (*key, str(name)))

    def _note(self, key: Key, start: int, end: int) -> None:
        self._places[key] = (start, end)
        value = self.read(key)
        if value is None:
            return
        self.found[key] = _names.described(value)

    def read(self, key: Key) -> tp.Any:
        start, end = self._places[key]
        with self.path.open("rb") as file:
            file.seek(start)
            return self._restore(file.read(end - start))

    def read_many(self, keys: tp.Iterable[Key]) -> dict[Key, tp.Any]:
        return {key: self.read(key) for key in keys}
