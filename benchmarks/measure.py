"""Timing: contenders take turns in one process, and the best time of each counts."""

import gc
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


def measured_rounds(
    contenders: tp.Mapping[str, Contender], seconds: float, prepare: Contender | None = None
) -> list[dict[str, float]]:
    """The times of all contenders, round by round."""
    names = list(contenders)
    if seconds:
        for contender in contenders.values():
            contender()
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
            for index in range(len(names)):
                name = names[(len(rounds) + index) % len(names)]
                contender = contenders[name]
                if prepare is not None:
                    prepare()
                start = time.perf_counter()
                contender()
                times[name] = time.perf_counter() - start
        finally:
            gc.enable()
        rounds.append(times)
    return rounds
