"""`python -m nnx_wrappers run`: a program on this library, unchanged."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, os, sys
import jax, jax.numpy as jnp
from flax import nnx
import maxtext.layers.nnx_wrappers as wrappers

x = jnp.ones((1, 2))
model = nnx.bridge.to_linen(nnx.Linear, 2, 3)
variables = model.init(jax.random.key(0), x)
for _ in range(3):
    model.apply(variables, x)
facts = {"argv": sys.argv, "path": sys.path[0], "name": __name__, "file": __file__,
         "wrapper": wrappers.ToNNX.__module__, "main": vars(sys.modules["__main__"]) is globals()}
print(json.dumps(facts))
os.chdir(os.sep)
if sys.argv[1:] == ["exit"]:
    sys.exit(3)
if sys.argv[1:] == ["raise"]:
    raise RuntimeError("on purpose")
"""
LINEAR = "ToLinen(flax.nnx.nn.linear.Linear)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "program.py").write_text(PROGRAM)
    return tmp_path


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nnx_wrappers", *args],
        cwd=folder,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )


def cells(table: str, first: str) -> list[str]:
    """The row of the table that begins with `first`."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines()]
    found = [row for row in rows if row and row[0] == first]
    assert len(found) == 1, table
    return found[0][1:]


def test_a_script_runs_as_python_runs_it_and_on_this_library(folder: Path) -> None:
    result = run(folder, "run", "scripts/program.py", "--report", "-m", "x")
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts.pop("wrapper").partition(".")[0] == "nnx_wrappers"
    assert facts == {
        "argv": ["scripts/program.py", "--report", "-m", "x"],
        "path": str((folder / "scripts").resolve()),
        "name": "__main__",
        "file": "scripts/program.py",
        "main": True,
    }
    assert "in place of flax.nnx.bridge" in result.stderr  # what was replaced
    assert "what the bridge did" not in result.stderr  # --report was for the script


@pytest.mark.feature("plans")
def test_a_module_with_a_report_and_an_exit_code(folder: Path) -> None:
    options = ("--report", "--report-file", "report.json")
    result = run(folder, "run", *options, "-m", "scripts.program", "exit")
    assert result.returncode == 3, result.stderr
    facts = json.loads(result.stdout)
    assert facts["argv"] == [str(folder / "scripts" / "program.py"), "exit"]
    assert Path(facts["path"]).resolve() == folder.resolve()
    assert (facts["name"], facts["main"]) == ("__main__", True)
    *counted, seconds = cells(result.stderr, LINEAR)
    assert counted == ["1", "3", "1", "2", "0"]  # inits, calls, plans built, hits, not planned
    assert float(seconds) > 0
    assert cells(result.stderr, "all") == [*counted, seconds]
    (row,) = json.loads((folder / "report.json").read_text())
    assert f"{row.pop('seconds'):.4f}" == seconds
    assert row == {
        "wrapper": "ToLinen",
        "wrapped": "flax.nnx.nn.linear.Linear",
        "inits": 1,
        "calls": 3,
        "plans_built": 1,
        "plan_hits": 2,
        "rebuilt": {},
        "not_planned": {},
    }


def test_an_exception_gives_its_traceback_and_still_the_report(folder: Path) -> None:
    result = run(folder, "run", "--report", "scripts/program.py", "raise")
    assert result.returncode == 1
    assert result.stderr.endswith("RuntimeError: on purpose\n")
    assert cells(result.stderr, LINEAR)[:2] == ["1", "3"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "the following arguments are required: run"),
        (("run", "--report"), "the following arguments are required: program"),
        (("run", "nowhere.py"), "there is no script 'nowhere.py'"),
        (("run", "--report-file", "no/f.json", "scripts/program.py"), "there is no folder"),
    ],
    ids=["nothing", "no program", "no script", "no folder"],
)
def test_a_wrong_command_line_is_an_error_before_anything_runs(
    folder: Path, args: tuple[str, ...], message: str
) -> None:
    result = run(folder, *args)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: python -m nnx_wrappers")
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_module_that_is_not_there_is_named(folder: Path) -> None:
    result = run(folder, "run", "-m", "nowhere_at_all")
    assert result.returncode == 1
    assert "No module named nowhere_at_all" in result.stderr


def test_help_shows_both_forms(folder: Path) -> None:
    result = run(folder, "run", "--help")
    assert result.returncode == 0
    assert "run [--report] -m maxtext.trainers.pre_train.train ARGS..." in result.stdout
    assert "run [--report] script.py ARGS..." in result.stdout
    assert "--report-file FILE" in result.stdout


REPORTED = """
import jax.numpy as jnp
from flax import nnx

class Config:
    def __init__(self):
        self.rate = 1.0

class Scaled(nnx.Module):
    def __init__(self, config, rngs):
        self.scale = nnx.Param(jnp.ones(2))
        self.rate = config.rate

    def __call__(self, x):
        return x * self.scale * self.rate

class Odd(nnx.Module):
    def __init__(self, rngs):
        setattr(self, "[bold]", Config())

    def __call__(self, x):
        return x

config = Config()
for config.rate in (1.0, 1.0, 2.0):
    scaled = nnx.bridge.ToLinen(Scaled, args=(config,))
    scaled.apply({"params": {"scale": jnp.ones(2)}}, jnp.ones(2))
for _ in range(2):
    nnx.bridge.ToLinen(Odd).apply({}, jnp.ones(2))
"""


@pytest.mark.feature("plans")
def test_the_report_adds_up_and_says_why_calls_were_not_planned(folder: Path) -> None:
    (folder / "reported.py").write_text(REPORTED)
    result = run(folder, "run", "--report", "--report-file", "report.json", "reported.py")
    assert result.returncode == 0, result.stderr
    rows = json.loads((folder / "report.json").read_text())
    for row in rows:
        row["not_planned"] = sum(row["not_planned"].values())
    columns = ("inits", "calls", "plans_built", "plan_hits", "not_planned")
    assert {row["wrapped"]: row["calls"] for row in rows} == {
        "__main__.Scaled": 3,
        "__main__.Odd": 2,
    }
    for row in rows:
        *counted, seconds = cells(result.stderr, f"ToLinen({row['wrapped']})")
        assert counted == [str(row[column]) for column in columns]
        assert seconds == f"{row['seconds']:.4f}"
    *counted, seconds = cells(result.stderr, "all")
    assert counted == [str(sum(row[column] for row in rows)) for column in columns]
    assert seconds == f"{sum(row['seconds'] for row in rows):.4f}"
    (reason,) = re.findall(r"^not planned: (.*)$", result.stderr, re.MULTILINE)
    assert reason.startswith("ToLinen(__main__.Odd), 2 calls: ")
    assert "static attribute '[bold]'" in reason
    assert "planned anew: ToLinen(__main__.Scaled), 1 calls: config.rate\n" in result.stderr
