"""`python -m nnx_wrappers run`: a program on this library, unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnx_wrappers._report import print_report

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
    assert json.loads(result.stdout) == {
        "argv": ["scripts/program.py", "--report", "-m", "x"],
        "path": str((folder / "scripts").resolve()),
        "name": "__main__",
        "file": "scripts/program.py",
        "wrapper": "nnx_wrappers._to_nnx",
        "main": True,
    }
    assert "in place of flax.nnx.bridge" in result.stderr  # what was replaced
    assert "what the bridge did" not in result.stderr  # --report was for the script


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


def test_the_report_adds_up_and_says_why_calls_were_not_planned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    counted = {"inits": 1, "calls": 5, "plans_built": 1, "plan_hits": 1}
    reasons = {"a [bold]reason": 2, "another": 1}
    first = {"wrapper": "ToLinen", "wrapped": "a.B", **counted, "not_planned": reasons,
             "rebuilt": {"config.rate": 1}}  # fmt: skip
    second = {"wrapper": "ToNNX", "wrapped": "c.D", **counted, "not_planned": {},
              "rebuilt": {}}  # fmt: skip
    print_report([first | {"seconds": 1.5}, second | {"seconds": 0.25}])
    text = capsys.readouterr().err
    assert cells(text, "ToLinen(a.B)") == ["1", "5", "1", "1", "3", "1.5000"]
    assert cells(text, "all") == ["2", "10", "2", "2", "3", "1.7500"]
    assert "not planned: ToLinen(a.B), 2 calls: a [bold]reason\n" in text
    assert "not planned: ToLinen(a.B), 1 calls: another\n" in text
    assert "planned anew: ToLinen(a.B), 1 calls: config.rate\n" in text
