"""A plan never outlives what it was made from: kinds of change, each on both sides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from plans import changes
from support.oracle import ours, theirs
from support.planning import plans, reasons, without_plans

X = jnp.arange(6.0).reshape(2, 3)
KEY = jax.random.key(0)

pytestmark = [pytest.mark.feature("plans"), pytest.mark.usefixtures("fresh_caches")]


def answers(change: changes.Change, bridge: object) -> tuple[list[bytes], int]:
    """What `init` and four applies answer, with the change before the last two; and the hits of
    plans before it."""
    program = changes.Program(change)
    y, variables = program.model(bridge).init_with_output(KEY, X)
    given = {"params": variables["params"]}
    results = [y]
    for number in range(4):
        if number == 2:
            hits = plans()["hits"]
            program.happen()
        results.append(program.model(bridge).apply(given, X))
    return [np.asarray(result).tobytes() for result in results], hits


@pytest.mark.parametrize("change", changes.SEEN, ids=str)
def test_a_change_is_seen(change: changes.Change) -> None:
    expected, _ = answers(change, theirs)
    assert expected[0] == expected[2] != expected[3] == expected[4]
    found, hits = answers(change, ours)
    assert found == expected
    assert (hits > 0) == change.planned, reasons()
    assert (reasons() == "") == change.planned
    ours.clear_caches()
    with without_plans():
        assert answers(change, ours) == (expected, 0)


@pytest.mark.parametrize(("change", "reason"), changes.EVERY_CALL, ids=str)
def test_what_answers_otherwise_at_each_call_is_not_planned(
    change: changes.Change, reason: str
) -> None:
    answers(change, ours)
    program = changes.Program(change)
    given = {"params": program.model(ours).init(KEY, X)["params"]}
    seen = {np.asarray(program.model(ours).apply(given, X)).tobytes() for _ in range(5)}
    assert len(seen) == (1 if change.name.startswith("reading") else 5)
    assert reason in reasons()
    assert plans()["rebuilt"] == {}
