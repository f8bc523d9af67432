"""README.md and every page under docs/: their code runs, shows what it says, and their links lead
somewhere. `make docs` makes the site of them.

How a page is read:

* ``python`` blocks run in order, in one namespace for each page.
* ``expression  # text`` at the top level of a block: the text is the value's repr.
* A block followed at once by a ``text`` block that begins with the name of an error or a
  warning ends with that error or gives that warning, word for word.
"""

import ast
import dataclasses
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import types
import typing as tp
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from flax.nnx import variablelib

import nnx_wrappers
from support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
FENCE = re.compile(r"^```([^`\n]*)\n(.*?)^```$(\n*)", re.MULTILINE | re.DOTALL)
SHOWN_PROBLEM = re.compile(r"^(\w+(?:Error|Warning)): ")


@dataclasses.dataclass
class Block:
    """One fenced block; `line` is that of its first line of text."""

    line: int
    language: str
    text: str
    problem: str = ""  # what the next block says that this one raises or warns


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    end = None
    for match in FENCE.finditer(text):
        block = Block(text.count("\n", 0, match.start()) + 2, match[1], match[2])
        follows = found and end == match.start() and found[-1].language == "python"
        if follows and block.language == "text" and SHOWN_PROBLEM.match(block.text):
            found[-1].problem = " ".join(block.text.split())
        found.append(block)
        end = match.end()
    return found


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.language == "python"]


def run(block: Block, page: Path, namespace: dict[str, tp.Any]) -> None:
    """Runs a block; its lines keep the numbers that they have in the page."""
    lines = block.text.splitlines()
    for statement in ast.parse(block.text).body:
        last = lines[statement.end_lineno - 1].encode()[statement.end_col_offset :].decode()
        ast.increment_lineno(statement, block.line - 1)
        if isinstance(statement, ast.Expr) and last.strip().startswith("# "):
            code = compile(ast.Expression(statement.value), str(page), "eval")
            value = repr(eval(code, namespace))
            assert value == last.strip()[2:], f"{page.name}:{statement.end_lineno}"
        else:
            exec(compile(ast.Module([statement], []), str(page), "exec"), namespace)


def run_problem(block: Block, page: Path, namespace: dict[str, tp.Any]) -> str:
    """Runs a block that ends in an error or warns; returns 'Name: text' of that."""
    if "Warning" in block.problem.split(":")[0]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run(block, page, namespace)
        shown = [f"{type(w.message).__name__}: {w.message}" for w in caught]
    else:
        try:
            run(block, page, namespace)
            shown = []
        except Exception as error:  # any error may be the one that is shown
            shown = [f"{type(error).__name__}: {error}"]
    assert shown, f"{page.name}:{block.line} neither raised nor warned"
    return " ".join(shown[0].split())


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tp.Any]]:
    """A module to run a page in. Collection names that it registers are taken back."""
    module = types.ModuleType("page_of_the_docs")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registered = dict(variablelib.VariableTypeCache)
    yield vars(module)
    vars(module).clear()  # JAX keeps the classes of the page, and they keep this
    variablelib.VariableTypeCache.clear()
    variablelib.VariableTypeCache.update(registered)


# Which modules of the tests hold Flax's classes already depends on what ran before.
@pytest.mark.filterwarnings("ignore:nnx_wrappers.install.. came late")
@pytest.mark.filterwarnings("ignore:'VariableState' was removed")  # by Qwix
@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=name_of)
def test_the_code_of_a_page_runs_and_shows_what_it_says(
    page: Path, namespace: dict[str, tp.Any]
) -> None:
    for block in python_blocks(page):
        if block.problem:
            assert run_problem(block, page, namespace) == block.problem
        else:
            run(block, page, namespace)


# Pages for users that have less than two blocks, each with its reason.
WITHOUT_CODE = {
    "docs/howto/faq.md": "it points to the pages that have it",
    "docs/howto/maxtext.md": "MaxText has an environment of its own: tests/maxtext",
    "docs/howto/qwix.md": "one block is enough",
    "docs/howto/switch.md": "one import changes",
}


def test_the_pages_for_users_hold_code() -> None:
    pages = [ROOT / "README.md", *DOCS.glob("tutorial/*.md"), *DOCS.glob("howto/*.md")]
    assert len(pages) > 10
    without = {name_of(page) for page in pages if len(python_blocks(page)) < 2}
    assert without == set(WITHOUT_CODE)


def test_every_error_that_a_page_shows_follows_the_code_that_raises_it() -> None:
    for page in PAGES:
        blocks = blocks_of(page)
        shown = [b for b in blocks if b.language == "text" and SHOWN_PROBLEM.match(b.text)]
        assert len(shown) == len([b for b in blocks if b.problem]), name_of(page)


def anchors_of(page: Path) -> set[str]:
    """The anchors that a Markdown viewer makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors_of(linked), f"{page.name}: {target}"


def test_every_public_name_is_in_the_reference_and_on_a_page_for_users() -> None:
    reference = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    documented = re.findall(
        r"^\.\. auto(?:class|function|exception):: (\w+)", reference, re.MULTILINE
    )
    assert sorted(documented) == sorted(nnx_wrappers.__all__)
    pages = [*DOCS.glob("tutorial/*.md"), *DOCS.glob("howto/*.md"), DOCS / "reference/cpp.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    assert [name for name in nnx_wrappers.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_every_page_is_in_the_navigation() -> None:
    trees = [b.text for b in blocks_of(DOCS / "index.md") if b.language == "{toctree}"]
    named = [f"docs/{line}.md" for line in "".join(trees).splitlines() if line and line[0] != ":"]
    pages = {name_of(page) for page in DOCS.rglob("*.md")} - {"docs/index.md"}
    assert sorted(named) == sorted(pages)


# What users look for, in their words, and the page that has to hold it.
WORDS = {
    "dropout mask seed": "howto/randomness.md",
    "sharding mesh PartitionSpec Partitioned": "howto/sharding.md",
    "jax.distributed.initialize hosts processes": "howto/many_hosts.md",
    "checkpoint Orbax restore msgpack pickle weights": "howto/weights.md",
    "migrate TrainState": "howto/migrate.md",
    "jit grad vmap scan remat": "howto/transforms.md",
    "int8 quantize": "howto/qwix.md",
    "teacher freeze mutable sow": "howto/linen_in_nnx.md",
    "TraceContextError ScopeParamShapeError ModifyScopeVariableError": "howto/errors.md",
    "faster unmodified report": "howto/run_unmodified.md",
    "cache_info not_planned rebuilt": "howto/plans.md",
}


@pytest.mark.parametrize("words", WORDS)
def test_a_page_has_the_words_that_its_readers_look_for(words: str) -> None:
    text = (DOCS / WORDS[words]).read_text(encoding="utf-8").lower()
    assert [word for word in words.split() if word.lower() not in text] == []


def test_every_option_of_the_command_line_is_on_its_page() -> None:
    command = [sys.executable, "-m", "nnx_wrappers", "run", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    options = re.findall(r"^  (-\w|--[\w-]+)", done.stdout, re.MULTILINE)
    assert len(options) >= 4
    page = (DOCS / "reference/command_line.md").read_text(encoding="utf-8")
    assert [option for option in options if f"`{option}" not in page] == []


def test_every_environment_variable_of_the_library_is_on_its_page() -> None:
    page = (DOCS / "reference/environment.md").read_text(encoding="utf-8")
    files = [*(ROOT / "src").rglob("*.cc"), *(ROOT / "python").rglob("*.py")]
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    named = set(re.findall(r'"(NNX_WRAPPERS_\w+)"', text))
    assert named >= {"NNX_WRAPPERS_PLANS"}
    assert [name for name in named if f"`{name}`" not in page] == []


def test_the_cpp_page_is_the_one_that_the_headers_give(tmp_path: Path) -> None:
    page = (DOCS / "reference/cpp.md").read_text(encoding="utf-8")
    fresh = tmp_path / "cpp.md"
    fresh.write_text(page, encoding="utf-8")
    command = [sys.executable, str(ROOT / "tools/make_cpp_reference.py"), str(fresh)]
    subprocess.run(command, check=True)
    assert fresh.read_text(encoding="utf-8") == page, "run `make stubs`"


def test_every_declaration_of_the_public_headers_is_on_the_cpp_page() -> None:
    page = " ".join((DOCS / "reference/cpp.md").read_text(encoding="utf-8").split())
    headers = sorted(Path(nnx_wrappers.get_include(), "nnx_wrappers").glob("*.h"))
    assert len(headers) > 10
    for header in headers:
        text = re.sub(r"//[^\n]*", "", header.read_text(encoding="utf-8"))
        public = re.sub(r"^ private:.*?^};", "};", text, flags=re.MULTILINE | re.DOTALL)
        calls = re.findall(r"[\w:&~<>\]\[ ]+\([^;{]*?\)(?: const)?(?= *[;{])", public)
        types = re.findall(r"^(?:class|struct) \w+", public, re.MULTILINE)
        macros = re.findall(r"^#define \w+", public, re.MULTILINE)
        shown = [text for text in [*calls, *types, *macros] if "return " not in text]
        found = [" ".join(text.split()) for text in shown]
        assert found or header.name == "nnx_wrappers.h"
        assert [text for text in found if text not in page] == [], header.name


def test_the_program_on_the_cpp_page_compiles(tmp_path: Path) -> None:
    shown = [b.text for b in blocks_of(DOCS / "reference/cpp.md") if b.language == "cpp"]
    programs = [text for text in shown if "int main()" in text]
    assert len(programs) == 1
    source = tmp_path / "main.cc"
    source.write_text(programs[0], encoding="utf-8")
    folders = [nnx_wrappers.get_include(), sysconfig.get_paths()["include"]]
    compiler = os.environ.get("CXX", "c++")
    options = ["-std=c++20", "-fsyntax-only", *(f"-I{folder}" for folder in folders)]
    done = subprocess.run([compiler, *options, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_cmake_lines_of_the_cpp_page_are_those_of_the_example() -> None:
    example = (ROOT / "examples/cpp/CMakeLists.txt").read_text(encoding="utf-8").splitlines()
    shown = [b.text for b in blocks_of(DOCS / "reference/cpp.md") if b.language == "cmake"]
    assert shown
    assert [line for line in "".join(shown).splitlines() if line and line not in example] == []


def test_every_test_that_the_table_of_differences_names_exists() -> None:
    page = (DOCS / "differences.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+\.py::\w+(?:\[[^]]+\])?)`", page))
    assert named
    files = []
    for name in {test.partition("::")[0] for test in named}:
        files += (ROOT / "tests/python").rglob(name)
    collect = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run([*collect, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    there = {re.sub(r"^[^:]*/", "", line) for line in done.stdout.splitlines()}
    there |= {test.partition("[")[0] for test in there}  # all cases of a test
    assert named - there == set()
    for file, name in re.findall(r"`(dialects/test_\w+\.py)::(\w+)`", page):
        source = (ROOT / "tests/versions" / file).read_text(encoding="utf-8")
        assert f"def {name}(" in source, f"{file} has no {name}"


def test_the_figures_of_the_readme_are_those_that_were_measured() -> None:
    text = (ROOT / "benchmarks/results/python313.json").read_text(encoding="utf-8")
    results = json.loads(text)
    rows = {row["name"]: row for row in results["rows"]}
    counts = {who: results["counts"][f"equations, {who}"] for who in ("native", "upstream", "ours")}
    lines = [[f"{counts[who]:,}" for who in ("native", "upstream", "ours")]]
    for name, unit in (
        ("trace of jit(ToLinen(model).apply)", "ms"),
        ("ToNNX(model), eager", "ms"),
        ("peak memory of an eager apply, 512 MiB", "MiB"),
    ):
        ratios = (1, rows[name]["upstream"], rows[name]["ours"])
        lines.append([f"{rows[name]['native'] * ratio:,.0f} {unit}" for ratio in ratios])
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for native, upstream, ours in lines:
        row = rf"^\|.* {native} \| {upstream} \| \*\*{ours}\*\* \|$"
        assert re.search(row, readme, re.MULTILINE), row
    assert results["machine"]["flax"] in readme


def test_the_site_is_made_with_the_flax_and_jax_of_the_tests() -> None:
    def pins(file: str) -> set[str]:
        lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
        return {line for line in lines if re.match(r"(flax|jax|jaxlib)==", line)}

    assert len(pins("docs/requirements.txt")) == 6
    assert pins("docs/requirements.txt") == pins("requirements-dev.txt")


def test_the_hooks_before_commits_and_pushes_run_what_make_lint_runs() -> None:
    config = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall(r"^ +entry: (.*)$", config, re.MULTILINE) == ["make lint-quick", "make lint"]
    assert re.search(r"^lint-quick:", makefile, re.MULTILINE)
    assert re.search(r"^lint: .*\blint-quick\b", makefile, re.MULTILINE)


def test_versions_agree() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = nnx_wrappers.__version__
    assert f"## [{version}]" in changelog
    assert f"VERSION {version} " in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert importlib.metadata.version("nnx_wrappers") == version
    header = Path(nnx_wrappers.get_include(), "nnx_wrappers/version.h").read_text(encoding="utf-8")
    parts = re.findall(r"#define NNX_WRAPPERS_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header)
    assert ".".join(parts) == version
    assert f'#define NNX_WRAPPERS_VERSION "{version}"' in header
    package = Path(nnx_wrappers.get_cmake_dir(), "nnx_wrappersConfigVersion.cmake")
    assert f'set(PACKAGE_VERSION "{version}")' in package.read_text(encoding="utf-8")
