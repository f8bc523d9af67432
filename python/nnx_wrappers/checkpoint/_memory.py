"""Memory that is free goes back to the system at once."""

import ctypes
import functools
import typing as tp


@functools.cache
def _trim() -> tp.Any:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back() -> None:
    """Has the C library keep nothing in reserve; its reserve is as large as the largest leaf."""
    try:
        trim = _trim()
    except (OSError, TypeError):  # no such library
        return
    if trim is not None:
        trim(0)
