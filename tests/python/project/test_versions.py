"""The page of the versions says what `make test-versions` has found."""

import importlib.util
import re
import sys

from support import ROOT

PAGE = ROOT / "docs/reference/versions.md"


def run_module():
    """tests/versions/run.py, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("versions_run", ROOT / "tests/versions/run.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_the_table_has_the_pairs_that_are_tried_in_their_order():
    run = run_module()
    text = PAGE.read_text(encoding="utf-8")
    between = text.split(run.MARKS[0])[1].split(run.MARKS[1])[0]
    rows = re.findall(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", between, re.MULTILINE)
    assert rows == [(pair.flax, pair.jax, pair.python) for pair in run.PAIRS]


def test_the_table_shows_no_failure():
    run = run_module()
    rows = PAGE.read_text(encoding="utf-8").split(run.MARKS[0])[1].split(run.MARKS[1])[0]
    counts = re.findall(r"\| (\d+) / (\d+) / \d+ \|$", rows, re.MULTILINE)
    assert len(counts) == sum(not pair.refused for pair in run.PAIRS)
    assert all(int(passed) > 0 and failed == "0" for passed, failed in counts)
