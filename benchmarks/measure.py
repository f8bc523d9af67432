"""Timing: contenders take turns in one process, and the best time of each counts."""

import gc
import time
import typing as tp

Contender = tp.Callable[[], object]


def best_times(contenders: tp.Mapping[str, Contender], seconds: float) -> dict[str, float]:
    """The shortest time of each contender, in seconds.

    Each runs once before the clock starts, so that nothing is compiled or planned under
    it. Then they take turns, each round beginning with another one, until `seconds` are
    over, but for ten rounds at least. Python's garbage collector rests meanwhile, as in
    `timeit`.

    Args:
      contenders: what to run, by name.
      seconds: how long to go on; 0 for a single round, the first one, which shows that
        everything runs and is no time to compare.
    """
    names = list(contenders)
    if seconds:
        for contender in contenders.values():
            contender()
    best = dict.fromkeys(names, float("inf"))
    rounds, least = 0, 10 if seconds else 1
    end = time.perf_counter() + seconds
    while rounds < least or time.perf_counter() < end:
        gc.collect()
        gc.disable()
        try:
            for index in range(len(names)):
                name = names[(rounds + index) % len(names)]
                contender = contenders[name]
                start = time.perf_counter()
                contender()
                best[name] = min(best[name], time.perf_counter() - start)
        finally:
            gc.enable()
        rounds += 1
    return best
