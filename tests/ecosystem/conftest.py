"""The two bridges, side by side, and the table of what was compared."""

import importlib.metadata
import os
import re
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np
import pytest
from flax import nnx

import nnx_wrappers

BRIDGES = {"flax": nnx.bridge, "ours": nnx_wrappers}


def named_leaves(tree):
    """The arrays of a tree in NumPy, by path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@pytest.fixture
def row(request):
    """Gives the test a line in the table, with what it shows; further arrays add up."""
    libraries = [f"{name} {importlib.metadata.version(name)}" for name in request.module.LIBRARIES]
    request.node.user_properties.append(("libraries", ", ".join(libraries)))

    def write(outcome, arrays):
        request.node.user_properties += [("outcome", outcome), ("arrays", arrays)]

    return write


@pytest.fixture
def both(row):
    """Runs a program on either bridge, compares all the arrays it returns, bit for bit, and
    returns what it returned on ours."""

    def compare(program):
        returned = {name: program(bridge) for name, bridge in BRIDGES.items()}
        reference, mine = (named_leaves(returned[name]) for name in ("flax", "ours"))
        assert list(mine) == list(reference) != []
        for path, array in reference.items():
            np.testing.assert_array_equal(mine[path], array, err_msg=path, strict=True)
            assert mine[path].tobytes() == array.tobytes(), path  # signs of zeros, bits of NaNs
        row("equal", len(reference))
        return returned["ours"]

    return compare


@pytest.fixture
def both_fail(row):
    """Runs a program on either bridge and demands the same error in the same words."""

    def compare(program, error, words):
        said = []
        for bridge in BRIDGES.values():
            with pytest.raises(error, match=re.escape(words)) as caught:
                program(bridge)
            said.append((caught.type, str(caught.value)))
        assert said[1] == said[0]
        row("same error", 0)

    return compare


def pytest_addoption(parser):
    parser.addoption("--table", type=Path, help="append the lines of the table to this file")


def line_of(report, passed):
    """A program, the libraries, what its test showed, and the number of arrays compared."""
    known = dict(report.user_properties)
    program = report.nodeid.partition("::test_")[2].replace("_", " ")
    arrays = sum(count for name, count in report.user_properties if name == "arrays")
    outcome = known["outcome"] if passed else "FAILED"
    return f"{program:60} {known['libraries']:36} {outcome:11} {arrays:4}"


def pytest_terminal_summary(terminalreporter, config):
    lines = [
        line_of(report, result == "passed")
        for result in ("passed", "failed")
        for report in terminalreporter.getreports(result)
        if report.when == "call" and "libraries" in dict(report.user_properties)
    ]
    if config.option.table:
        with config.option.table.open("a", encoding="utf-8") as table:
            table.writelines(f"{line}\n" for line in lines)
    elif lines:
        terminalreporter.section("programs on both bridges, and arrays compared")
        for line in lines:
            terminalreporter.write_line(line)
