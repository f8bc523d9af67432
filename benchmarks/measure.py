"""Timing: contenders take turns in one process, and the best time of each counts."""

import gc
import itertools
import statistics
import time
import typing as tp

Contender = tp.Callable[[], object]


def best_times(contenders: tp.Mapping[str, Contender], seconds: float) -> dict[str, float]:
    """The shortest time of each contender, in seconds.

    Each runs once before the clock starts, so that nothing is compiled or planned under
    it. Then they take turns, each round beginning with another one, until `seconds` are
    over, but for ten rounds at least, or three if these take more than a minute. Python's
    garbage collector rests meanwhile, as in `timeit`.

    Args:
      contenders: what to run, by name.
      seconds: how long to go on; 0 for a single round, the first one, which shows that
        everything runs and is no time to compare.
    """
    rounds = measured_rounds(contenders, seconds)
    return {name: min(times[name] for times in rounds) for name in contenders}


def paired_ratios(
    contenders: tp.Mapping[str, Contender], seconds: float, prepare: Contender | None = None
) -> tuple[float, dict[str, float]]:
    """The shortest time of the contender `native`, and each one's time as a multiple of the
    time that `native` took in the same round: the median of all rounds. A machine that is slower
    for a while is slower for both.

    Args:
      contenders: what to run, by name.
      seconds: as for `best_times`.
      prepare: what runs before each contender, while the clock stands still.
    """
    rounds = measured_rounds(contenders, seconds, prepare)
    ratios = {
        name: statistics.median(times[name] / times["native"] for times in rounds)
        for name in contenders
    }
    return min(times["native"] for times in rounds), ratios


def calls_of_a_turn(contender: Contender) -> int:
    """How many calls take twenty milliseconds, but 1 to 100. The first one of a turn finds the
    processor's caches full of the work of the contender before it."""
    start = time.perf_counter()
    contender()
    return round(min(100.0, max(1.0, 2e-2 / max(time.perf_counter() - start, 1e-9))))


def measured_rounds(
    contenders: tp.Mapping[str, Contender], seconds: float, prepare: Contender | None = None
) -> list[dict[str, float]]:
    """The times of all contenders, round by round: of one call each."""
    calls = dict.fromkeys(contenders, 1)
    if seconds:
        for name, contender in contenders.items():
            contender()
            if prepare is None:
                calls[name] = calls_of_a_turn(contender)
    # Each contender runs after each other one, since it finds in the processor's caches what that
    # one has left there.
    orders = itertools.cycle(itertools.permutations(contenders))
    rounds: list[dict[str, float]] = []
    least = 10 if seconds else 1
    begin = time.perf_counter()
    # Of contenders that take many seconds, three rounds are enough.
    while (
        len(rounds) < min(least, 3)
        or (len(rounds) < least and time.perf_counter() < begin + 60)
        or time.perf_counter() < begin + seconds
    ):
        times = {}
        gc.collect()
        gc.disable()
        try:
            for name in next(orders):
                contender = contenders[name]
                if prepare is not None:
                    prepare()
                start = time.perf_counter()
                for _ in range(calls[name]):
                    contender()
                times[name] = (time.perf_counter() - start) / calls[name]
        finally:
            gc.enable()
        rounds.append(times)
    return rounds
