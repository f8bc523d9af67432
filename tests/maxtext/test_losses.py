"""MaxText trains on this library as on its own wrappers: equal in every bit."""

import itertools
from pathlib import Path

import pytest
import training

MODELS = [
    training.Model(wiring, block, scan)
    for wiring, block, scan in itertools.product(training.WIRINGS, training.MODELS, (True, False))
]
# Layers as ToLinen classes, and wrappers in wrappers; both models and both ways of scanning.
SHORT = {"linen-llama2-scanned", "hybrid-deepseek-unscanned"}


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(m, marks=[pytest.mark.short] if str(m) in SHORT else [], id=str(m))
        for m in MODELS
    ],
)
def test_every_metric_of_every_step_is_equal(
    model: training.Model, tmp_path: Path, table: list[str]
) -> None:
    # Both at once, as there are two cores.
    both = [training.start(side, model, tmp_path / side) for side in training.SIDES]
    for one in both:
        one.wait()
    upstream, ours = (one.metrics() for one in both)
    assert len(upstream) == training.SMALL["steps"]
    assert ours == upstream
    assert len({step["learning/loss"] for step in upstream}) > 1  # it learns

    report = both[1].report()
    bridged = [row for row in report if row["wrapper"] == "ToLinen"]
    assert bridged
    for row in bridged:
        planned = row["plan_hits"] + row["plans_built"]  # all calls, and inits but for the first
        assert row["calls"] <= planned < row["calls"] + max(row["inits"], 1), row
        assert row["not_planned"] == {}, row
    sums = {
        key: sum(row[key] for row in report)
        for key in ("inits", "calls", "plans_built", "plan_hits")
    }
    losses = f"{upstream[0]['learning/loss']:.6f} to {upstream[-1]['learning/loss']:.6f}"
    table.append(f"{model!s:28} equal  {losses}  {sums}")
