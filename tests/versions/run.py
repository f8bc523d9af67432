"""Tries each pair of Flax and JAX in an environment of its own, and prints one table.

A run that is not for CI also writes its rows into docs/reference/versions.md. A pair that is known
not to work is tried for the one sentence that says so.
"""

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/versions.md"
MARKS = ("<!-- pairs: begin -->\n", "<!-- pairs: end -->\n")
MADE_BY_MAKE = ("3.11", "3.13")
UNFIT = (
    r"ImportError: nnx_wrappers needs Flax, and Flax .* cannot be imported with JAX .*; install "
)

# Differential tests: ours against the bridge of the installed Flax. Each suite is a run of pytest.
# `dialects` says only what every version of Flax understands; ToLinen needs Flax 0.12.1.
DIALECTS = ["-c", "tests/versions/dialects/pytest.ini", "tests/versions/dialects"]
ROBOT = ["-c", "tests/ecosystem/pytest.ini", "tests/ecosystem/test_vision_language_action.py"]
FEW_TESTS = ["convert/test_variables.py", "to_linen/test_nesting.py", "to_nnx/test_calls.py"]
TESTS = [*FEW_TESTS, "layers/linen/test_layers.py", "layers/nnx/test_layers.py"]
# What runs of the suites in CI, and where ToLinen has further tests.
FEW_DIALECTS = ["-k", "dense or batch or scanned or names or share or failed"]


@dataclasses.dataclass(frozen=True)
class Pair:
    flax: str
    jax: str
    python: str
    is_short: bool = False
    has_to_linen: bool = True
    has_robot: bool = False  # the versions that such models pin, and the newest
    refused: str = ""  # the ImportError of nnx_wrappers, where the pair cannot work

    def __str__(self) -> str:
        return f"{self.flax}/{self.jax}"


PAIRS = [
    Pair("0.10.2", "0.5.3", "3.11", is_short=True, has_to_linen=False, has_robot=True),
    Pair("0.10.4", "0.5.3", "3.11", has_to_linen=False),
    Pair("0.10.7", "0.6.2", "3.11", has_to_linen=False),
    Pair("0.11.2", "0.7.2", "3.11", has_to_linen=False),
    Pair("0.12.1", "0.8.1", "3.11"),
    Pair("0.12.4", "0.9.0", "3.11", is_short=True),
    Pair("0.12.7", "0.10.0", "3.11"),
    Pair("0.12.8", "0.10.2", "3.11"),
    Pair("0.12.9", "0.11.1", "3.13"),
    Pair("0.12.10", "0.11.2", "3.12"),
    Pair("0.12.12", "0.10.2", "3.13"),
    Pair("0.12.12", "0.11.2", "3.13"),
    Pair("0.12.12", "0.12.0.1", "3.13", is_short=True, has_robot=True),
    Pair("0.12.8", "0.11.1", "3.13", refused=UNFIT),
]


@dataclasses.dataclass
class Result:
    pair: Pair
    imported: str = "yes"
    off: str = ""  # the features that are off
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    is_right: bool = True

    def row(self) -> list[str]:
        tests = "none" if self.pair.refused else f"{self.passed} / {self.failed} / {self.skipped}"
        features = "" if self.pair.refused else self.off or "all on"
        return [self.pair.flax, self.pair.jax, self.pair.python, self.imported, features, tests]


COLUMNS = ["Flax", "JAX", "Python", "import", "features", "tests passed / failed / skipped"]


def uv(*arguments: str | Path) -> None:
    command = [Path(sys.executable).parent / "uv", *arguments]
    subprocess.run(command, check=True, env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"})


def interpreter(python: str) -> str:
    """The path of the Python of this line; an error says how to get one."""
    found = subprocess.run(
        [ROOT / "tools/find_python.sh", f"python{python}"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return found.stdout.strip()


def wheel(python: str) -> Path:
    """The wheel of this line: `make build` makes those of two lines, and this function others."""
    folder = ROOT / f"build/cpython-{python.replace('.', '')}/wheel"
    if python not in MADE_BY_MAKE:
        uv("build", "--quiet", "--wheel", "--python", interpreter(python), "-o", folder, ROOT)
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SystemExit(
            f"run.py: expected one wheel in {folder}; run: make build PYTHON=python{python}"
        )
    return wheels[0]


def pinned(*names: str) -> list[str]:
    """The lines of requirements-dev.txt for these packages."""
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in names]


def environment(pair: Pair) -> Path:
    """The Python of the pair's environment, which is made where it is not there."""
    folder = ROOT / f"build/versions/{pair.flax}-{pair.jax}-{pair.python}"
    python = folder / "bin/python"
    if not (folder / ".ready").exists():
        uv("venv", "--quiet", "--clear", "--python", interpreter(pair.python), folder)
        # The JAX of the pair, also where this Flax asks for a newer one.
        overrides = folder / "overrides.txt"
        overrides.write_text(f"jax=={pair.jax}\njaxlib=={pair.jax}\n", encoding="utf-8")
        options = ["--quiet", "--python", python, "--overrides", overrides]
        wanted = [f"flax=={pair.flax}", "jax", "jaxlib", *pinned("pytest", "hypothesis")]
        uv("pip", "install", *options, *wanted)
        (folder / ".ready").touch()
    ours = ["--no-deps", "--reinstall", wheel(pair.python)]
    uv("pip", "install", "--quiet", "--python", python, *ours)
    return python


def settings() -> dict[str, str]:
    """Compiling without optimizations, and the same examples in every run."""
    quick = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "CI": "true"}
    return {**os.environ, **quick}


def read_features(python: Path, result: Result) -> bool:
    """Whether the package can be imported; notes the features that are off, or the error."""
    code = "import json, nnx_wrappers; print(json.dumps(nnx_wrappers.features()))"
    child = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, env=settings(), check=False
    )
    if child.returncode == 0:
        features = json.loads(child.stdout.splitlines()[-1])
        result.off = "; ".join(f"{name}: {why}" for name, why in features.items() if why)
        return True
    result.imported = next(
        (line for line in reversed(child.stderr.splitlines()) if "Error: " in line), "it crashed"
    )
    return False


def suites_of(pair: Pair, is_short: bool, share: str) -> list[list[str]]:
    """The arguments of each run of pytest."""
    suites = [[*DIALECTS, *FEW_DIALECTS] if is_short or pair.has_to_linen else DIALECTS]
    if pair.has_robot:
        suites.append([*ROBOT, "-m", "short"] if is_short else ROBOT)
    if pair.has_to_linen:
        files = [f"tests/python/{test}" for test in (FEW_TESTS if is_short else TESTS)]
        suites.append(["--share", share, *files])
    return suites


def run_suite(python: Path, result: Result, arguments: list[str]) -> None:
    """Runs one suite, and adds what came of it to the result."""
    report = python.parents[1] / "report.xml"
    report.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "--quiet", "--no-header", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, f"--junit-xml={report}", *arguments], cwd=ROOT, env=settings(), check=False
    )
    passed = 0
    if report.exists():
        suite = ElementTree.parse(report).getroot()[0]
        counts = {
            name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        }
        failed = counts["failures"] + counts["errors"]
        passed = counts["tests"] - failed - counts["skipped"]
        result.failed += failed
        result.skipped += counts["skipped"]
        result.passed += passed
    result.is_right = result.is_right and ended.returncode == 0 and passed > 0


def attempt(pair: Pair, is_short: bool, share: str) -> Result:
    """What the pair does; `is_right` if that is what it should do."""
    print(f"\n==== Flax {pair.flax}, JAX {pair.jax}, Python {pair.python}", flush=True)
    result = Result(pair)
    python = environment(pair)
    is_imported = read_features(python, result)
    if pair.refused:
        result.is_right = not is_imported and re.match(pair.refused, result.imported) is not None
    elif is_imported:
        for arguments in suites_of(pair, is_short, share):
            run_suite(python, result, arguments)
    else:
        result.is_right = False
    return result


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def write_page(results: list[Result]) -> None:
    """Writes the rows of these pairs; those of other pairs stay as they are."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(MARKS[0])
    between, _, after = rest.partition(MARKS[1])
    rows = {tuple(row.split(" | ")[:2]): row for row in between.splitlines(keepends=True)}
    rows |= {(f"| {r.pair.flax}", r.pair.jax): line(r.row()) for r in results}
    order = [(f"| {pair.flax}", pair.jax) for pair in PAIRS]
    table = line(COLUMNS) + line(["---"] * len(COLUMNS))
    table += "".join(rows[key] for key in order if key in rows)
    PAGE.write_text(before + MARKS[0] + table + MARKS[1] + after, encoding="utf-8")


def show(results: list[Result]) -> None:
    table = Table(*COLUMNS, "")
    for result in results:
        table.add_row(*result.row(), "as expected" if result.is_right else "WRONG")
    Console().print(table)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="three pairs and few tests, for CI")
    parser.add_argument("--few", action="store_true", help="few tests, as in CI, with each pair")
    parser.add_argument("--pair", action="append", choices=[str(pair) for pair in PAIRS])
    parser.add_argument(
        "--share", default="7/240", help="of the layers' catalogues; default: 7/240"
    )
    options = parser.parse_args(arguments)
    pairs = [pair for pair in PAIRS if pair.is_short or not options.short]
    if options.pair:
        pairs = [pair for pair in pairs if str(pair) in options.pair]
    is_short = options.short or options.few
    results = [attempt(pair, is_short, options.share) for pair in pairs]
    show(results)
    if not options.short:
        write_page(results)
    return 0 if all(result.is_right for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
