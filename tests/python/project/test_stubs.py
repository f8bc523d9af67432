"""The stub of the extension is the one that its signatures give."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import nnx_wrappers
from nnx_wrappers import _core
from support import ROOT

COMMITTED = ROOT / "python/nnx_wrappers/_core.pyi"


def test_the_committed_stub_is_the_generated_one(tmp_path):
    fresh = tmp_path / "_core.pyi"
    command = ["sh", str(ROOT / "tools/make_stubs.sh"), sys.executable, str(fresh)]
    subprocess.run(command, check=True, cwd=ROOT)
    assert fresh.read_text() == COMMITTED.read_text(), "run `make stubs`"


def test_the_stub_knows_every_name_of_the_extension_with_types():
    functions = {f.name: f for f in ast.parse(COMMITTED.read_text()).body if hasattr(f, "name")}
    assert set(functions) == {name for name in dir(_core) if not name.startswith("__")}
    for function in functions.values():
        if isinstance(function, ast.FunctionDef):
            types = [ast.unparse(a.annotation) for a in function.args.args if a.annotation]
            assert len(types) == len(function.args.args), function.name
            assert "object" not in [*types, ast.unparse(function.returns)], function.name


def test_the_installed_package_is_typed():
    installed = Path(importlib.util.find_spec("nnx_wrappers").origin).parent
    assert (installed / "py.typed").is_file()
    assert (installed / "_core.pyi").read_text() == COMMITTED.read_text()
    assert Path(nnx_wrappers.get_include(), "nnx_wrappers/interpreter.h").is_file()
