"""Runs a program and writes, as JSON, what JAX says of the traces of its train step and, with
Flax's or MaxText's own wrappers, the seconds that were spent inside them:

    python tests/maxtext/clock.py OUTPUT upstream -m module args...
    python tests/maxtext/clock.py OUTPUT ours --report-file F -m module args...

Inside means what it means in the report of `python -m nnx_wrappers run`: in the call of a
wrapper, without the wrapped module's own method and without Linen's apply.
"""

import contextlib
import functools
import inspect
import json
import runpy
import sys
import time
import types
import typing as tp
from collections.abc import Callable, Iterator

import jax
from flax import linen

EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
}


class Clock:
    """Runs while the program is inside the bridge. For one thread."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.is_inside = False
        self.since = 0.0

    def turn(self, inside: bool) -> None:
        now = time.perf_counter()
        if self.is_inside:
            self.seconds += now - self.since
        self.since, self.is_inside = now, inside

    @contextlib.contextmanager
    def where(self, inside: bool) -> Iterator[None]:
        before = self.is_inside
        self.turn(inside)
        try:
            yield
        finally:
            self.turn(before)

    def around(self, function: Callable[..., tp.Any], inside: bool) -> Callable[..., tp.Any]:
        @functools.wraps(function)
        def timed(*args: tp.Any, **kwargs: tp.Any) -> tp.Any:
            with self.where(inside):
                return function(*args, **kwargs)

        return timed


def watch_upstream(clock: Clock) -> None:
    from maxtext.layers import nnx_wrappers as wrappers

    wrappers.ToNNX.__call__ = clock.around(wrappers.ToNNX.__call__, inside=True)
    for name in ("apply", "init_with_output"):
        setattr(linen.Module, name, clock.around(getattr(linen.Module, name), inside=False))

    method_of = wrappers._get_module_method
    wrappers._get_module_method = lambda *args: clock.around(method_of(*args), inside=False)

    # Linen has wrapped this method, and classes made since hold it: only its code can change.
    call = inspect.unwrap(wrappers.ToLinen.__call__)
    original = types.FunctionType(call.__code__, call.__globals__)
    original.__kwdefaults__ = call.__kwdefaults__
    wrappers._timed = clock.around(original, inside=True)

    def through_the_clock(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        return _timed(self, *args, **kwargs)  # type: ignore[name-defined]  # noqa: F821

    call.__code__ = through_the_clock.__code__


def main(output: str, side: str, *argv: str) -> None:
    times: dict[str, list[float]] = {"trace": [], "lower": []}

    def listen(event: str, seconds: float, **facts: tp.Any) -> None:
        if event in EVENTS and "train_step" in str(facts.get("fun_name")):
            times[EVENTS[event]].append(seconds)

    jax.monitoring.register_event_duration_secs_listener(listen)
    clock = Clock()
    if side == "upstream":
        watch_upstream(clock)
        module, argv = argv[1], argv[1:]
    else:
        module, argv = "nnx_wrappers", ("nnx_wrappers", "run", *argv)
    sys.argv = list(argv)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:  # a program may end with SystemExit
        with open(output, "w", encoding="utf-8") as file:
            json.dump({"bridge": clock.seconds, **times}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
