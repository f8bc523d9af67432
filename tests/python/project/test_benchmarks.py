"""The benchmarks: that they run and measure what they say. Never a time."""

import functools
import itertools
import json
import re
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from benchmarks import measure
from flax import nnx

import nnx_wrappers
from support import ROOT

pytestmark = pytest.mark.shared()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The results of the short mode, in a process of its own."""
    folder = tmp_path_factory.mktemp("results")
    subprocess.run(
        [sys.executable, "-m", "benchmarks", "--short", "--results", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    line = f"python{sys.version_info.major}{sys.version_info.minor}"
    assert {path.name for path in folder.iterdir()} == {
        f"{line}{ending}" for ending in (".json", ".png", "_real_models.png")
    }
    return json.loads((folder / f"{line}.json").read_text(encoding="utf-8"))


def published() -> dict:
    """The results that the documentation shows."""
    file = ROOT / "benchmarks/results/python313.json"
    return json.loads(file.read_text(encoding="utf-8"))


def without_size(name: str) -> str:
    """The short mode measures with less memory."""
    return re.sub(r"\d+ MiB", "", name)


def test_every_row_of_the_table_runs(results: dict) -> None:
    names = [row["name"] for row in results["rows"]]
    assert len(names) == len(set(names))
    shown = {without_size(row["name"]) for row in published()["rows"]}
    assert shown <= {without_size(name) for name in names}
    for row in results["rows"]:
        # What guards add is a difference of two times, of one round each in the short mode.
        assert row["ours"] > 0 or row["name"].startswith("1,000 guarded values")
        assert row["goal"] > 0
        assert not row["is_ratio"] or row["native"] > 0
        assert not row["is_ratio"] or row["upstream"] is None or row["upstream"] > 0


def test_every_row_of_the_real_models_runs(results: dict) -> None:
    rows = results["real_models"]
    names = [(row["name"], row["state"]) for row in rows]
    assert len(names) == len(set(names))
    assert {state for _, state in names} == {"cold", "warm"}
    for row in rows:
        assert min(row["native"], row["ours"]) > 0
        assert row["upstream"] is None or row["upstream"] > 0
        assert row["goal"] is None or row["goal"] > 0
        assert row["floor"] is None or row["floor"] > 0


def test_a_cold_row_remembers_nothing() -> None:
    kept = nnx_wrappers.ToLinen(nnx.Linear, args=(2, 3))
    variables = kept.init({"params": jax.random.key(0)}, jnp.ones((1, 2)))
    plans = []

    def contender() -> None:
        plans.append(nnx_wrappers.cache_info()["plans"]["size"])
        kept.apply(variables, jnp.ones((1, 2)))

    both = {"native": contender, "ours": contender}
    measure.paired_ratios(both, 0, nnx_wrappers.clear_caches)
    assert plans == [0, 0]
    nnx_wrappers.clear_caches()
    plans.clear()
    measure.paired_ratios(both, 0)
    assert plans == [0, 1]


def test_no_equation_is_added(results: dict) -> None:
    counts = results["counts"]
    assert counts["equations, ours"] == counts["equations, native"] > 0
    assert counts["equations, upstream"] > 1.5 * counts["equations, native"]
    # Linen's key for the stream, and one nested call for what the dropout layers keep.
    assert counts["equations with rngs, ours"] <= counts["equations, native"] + 2
    assert counts["equations with rngs, upstream"] > counts["equations with rngs, ours"]


def test_nothing_is_constructed_again(results: dict) -> None:
    counts = results["counts"]
    assert counts["constructor calls in 5 applies"] == 0
    assert counts["initializer runs in 5 applies"] == 0
    assert counts["not planned"] == 0


def test_plots_are_drawn_again_from_what_was_saved(tmp_path: Path) -> None:
    saved = ROOT / "benchmarks/results/python313.json"
    (tmp_path / saved.name).write_bytes(saved.read_bytes())
    command = [sys.executable, "-m", "benchmarks", "--redraw", "--results", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True)
    drawn = (tmp_path / "python313.png").read_bytes()
    assert drawn.startswith(b"\x89PNG")
    assert len(drawn) < 70_000  # a small file, since each version of it stays in the history


def test_every_size_is_measured(results: dict) -> None:
    works = {}
    for entry in results["scaling"]:
        works.setdefault(entry["work"], []).append(entry["variables"])
    assert set(works) == {entry["work"] for entry in published()["scaling"]}
    for sizes in works.values():
        assert sizes == sorted(set(sizes))
        assert len(sizes) == 2


def let_each_look_take(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the benchmarks goes on by so many seconds whenever it is read."""
    clock = itertools.count(0.0, step)
    monkeypatch.setattr(measure, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))


@pytest.mark.parametrize(("step", "rounds"), [(0.01, 81), (1.0, 10), (30.0, 3)])
def test_rounds_end_when_their_time_is_over(
    step: float, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_each_look_take(step, monkeypatch)
    contenders = {"native": lambda: None, "ours": lambda: None}
    assert len(measure.measured_rounds(contenders, 4.0)) == rounds


def test_each_contender_runs_after_each_other_one(monkeypatch: pytest.MonkeyPatch) -> None:
    let_each_look_take(0.02, monkeypatch)
    order: list[str] = []
    contenders = {name: functools.partial(order.append, name) for name in "abc"}
    rounds = measure.measured_rounds(contenders, 4.0)
    turns = order[-3 * len(rounds) :]
    neighbours = [
        pair for first in range(0, 18, 3) for pair in itertools.pairwise(turns[first:][:3])
    ]
    assert sorted(set(neighbours)) == sorted(itertools.permutations("abc", 2))


@pytest.mark.parametrize(("step", "calls"), [(0.02, 1), (0.005, 4), (0.0, 100)])
def test_short_calls_are_timed_together(
    step: float, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_each_look_take(step, monkeypatch)
    assert measure.calls_of_a_turn(lambda: None) == calls
