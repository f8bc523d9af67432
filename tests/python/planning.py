"""Construction plans: what is said about them, and what a constructor made."""

import contextlib

from oracle import ours


@contextlib.contextmanager
def without_plans():
    before = ours.use_plans(False)
    try:
        yield
    finally:
        ours.use_plans(before)


def plans():
    return ours.cache_info()["plans"]


def reasons():
    return " | ".join(plans()["not_planned"])


def value_of(model):
    """The number that a ToLinen returns without variables, so that its constructor made it."""
    return float(model.apply({})[0])
