"""Packages that only checkpoints need: imported when used, with one sentence if one is absent."""

import importlib
import typing as tp


def package(name: str, needed_for: str) -> tp.Any:
    """The module, imported now."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        top = name.split(".")[0]
        if error.name is None or error.name.split(".")[0] != top:
            raise
        raise ImportError(
            f"{needed_for} needs the package {top}, which is not installed: "
            "pip install 'nnx_wrappers[checkpoint]'"
        ) from None


def orbax() -> tp.Any:
    return package("orbax.checkpoint", "an Orbax checkpoint")


def orbax_v1() -> tp.Any:
    return package("orbax.checkpoint.experimental.v1", "writing an Orbax checkpoint")


def serialization() -> tp.Any:
    """Flax's own module, which needs msgpack."""
    package("msgpack", "a msgpack checkpoint")
    return package("flax.serialization", "a msgpack checkpoint")
