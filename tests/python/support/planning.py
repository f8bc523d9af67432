"""Construction plans: what is said about them, and what a constructor made."""

import collections
import contextlib
import logging

from support.oracle import ours

LOG = logging.getLogger("nnx_wrappers.tests")
COUNTS = collections.Counter()


class _Counter(logging.Handler):
    """Counts what constructors log: they cannot read it, so they are planned all the same."""

    def emit(self, record):
        COUNTS[record.getMessage()] += 1


LOG.setLevel(logging.INFO)
LOG.addHandler(_Counter())
LOG.propagate = False


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
