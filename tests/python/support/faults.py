"""Calls into Python that fail on demand, one after the other.

In a build with the CMake option NNX_WRAPPERS_FAULTS every call of the extension into
CPython counts (`make faults`). In any other build those count that enter a Python function.
"""

import ctypes
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nnx_wrappers
from nnx_wrappers import _core
from support.effort import LONG

PACKAGE = str(Path(nnx_wrappers.__file__).parent)
TEXT = "injected fault"


class PythonCalls:
    """Counts the Python functions that are entered from the package or from `caller`."""

    failed = "a Python function"

    def __init__(self, caller: Callable[..., Any]) -> None:
        self.calls = 0
        self._caller = caller.__code__

    def fail_at(self, number: int, error: type[BaseException] = RuntimeError) -> None:
        self.calls = 0

        def profile(frame, event, arg):
            if event != "call" or frame.f_back is None:
                return
            code = frame.f_back.f_code
            # The callbacks of weak references, whose errors Python itself swallows.
            if frame.f_code.co_filename == weakref.__file__:
                return
            if not (code is self._caller or code.co_filename.startswith(PACKAGE)):
                return
            self.calls += 1
            if self.calls == number:
                raise error(TEXT)

        sys.setprofile(profile)

    def stop(self) -> None:
        sys.setprofile(None)


class EveryCall:
    """Counts every call of the extension into CPython."""

    def __init__(self, library: ctypes.PyDLL) -> None:
        self._fail_at = library.nnx_wrappers_fault_at
        self._fail_at.argtypes = [ctypes.c_long, ctypes.c_int]
        self._fail_at.restype = None
        self._calls = library.nnx_wrappers_fault_calls
        self._calls.restype = ctypes.c_long
        self._name = library.nnx_wrappers_fault_name
        self._name.restype = ctypes.c_char_p
        self.calls = 0
        self.failed = ""

    def fail_at(self, number: int, error: type[BaseException] = RuntimeError) -> None:
        self._fail_at(number, error is KeyboardInterrupt)

    def stop(self) -> None:
        self.calls = self._calls()
        self.failed = self._name().decode()
        self._fail_at(0, False)


_library = ctypes.PyDLL(_core.__file__)
EVERY_CALL_COUNTS = hasattr(_library, "nnx_wrappers_fault_at")


def make_counter(caller: Callable[..., Any]) -> PythonCalls | EveryCall:
    """`caller` is a function that calls the extension itself."""
    return EveryCall(_library) if EVERY_CALL_COUNTS else PythonCalls(caller)


def numbers(total: int, most: int) -> Iterator[int]:
    """1 to `total`, or `most` of them spread evenly."""
    if LONG:
        most = total
    step = max(1, -(-total // most))
    yield from range(1, total + 1, step)


def is_injected(error: BaseException | None) -> bool:
    """True if the error, or what it says it came from, is an injected one."""
    while error is not None:
        if TEXT in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
