"""The three commands, and the session of them that the documentation shows."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
from flax import serialization

from nnx_wrappers.__main__ import main
from support import ROOT

# Hardly depends on the line of Python: one of two that divide the work runs it.
pytestmark = pytest.mark.shared()

PAGE = ROOT / "docs/reference/command_line.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def save(path: Path, value: float) -> str:
    path.write_bytes(serialization.to_bytes({"params": {"w": jnp.full(3, value)}}))
    return str(path)


def test_the_session_of_the_documentation_is_what_the_commands_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = dict(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    (tmp_path / "train.py").write_text(blocks["py"])
    (tmp_path / "rules.toml").write_text(blocks["toml"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    shown = ""
    for line in re.findall(r"^\$ (.*)$", blocks["console"], re.MULTILINE):
        words = line.split()
        if words == ["python", "train.py"]:
            runpy.run_path("train.py", run_name="__main__")
        else:
            assert words[:3] == ["python", "-m", "nnx_wrappers"]
            main(words[3:])
        printed = capsys.readouterr()
        errors = [text for text in printed.err.splitlines(True) if text.startswith("error: ")]
        shown += f"$ {line}\n{printed.out}{''.join(errors)}"
    monkeypatch.delitem(sys.modules, "train", raising=False)
    assert shown == blocks["console"]


def test_the_exit_status_says_same_different_or_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = save(tmp_path / "a", 1.0), save(tmp_path / "b", 2.0)
    assert main(["ckpt", "compare", a, b]) == 0
    assert main(["ckpt", "compare", a, b, "--values", "exact"]) == 1
    assert "differs" in capsys.readouterr().out
    assert main(["ckpt", "compare", a, str(tmp_path / "c")]) == 2
    assert capsys.readouterr().err == f"error: there is no checkpoint {tmp_path / 'c'}\n"
    assert main(["ckpt", "compare", a, b, "--values", "much"]) == 2
    assert main(["ckpt", "convert", a, str(tmp_path / "d"), "--target", "json:nothing"]) == 2
    assert "cannot be found" in capsys.readouterr().err


def test_a_checkpoint_is_described_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ckpt", "inspect", save(tmp_path / "a", 1.0), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": str(tmp_path / "a"),
        "format": "flax.serialization msgpack",
        "kind": "linen",
        "groups": {"params": {"leaves": 1, "bytes": 12}},
        "leaves": [
            {
                "key": ["params", "w"],
                "group": "params",
                "path": "w",
                "shape": [3],
                "dtype": "float32",
            }
        ],
    }


@pytest.mark.parametrize("command", ["inspect", "compare", "convert"])
def test_every_option_of_a_command_is_on_its_page(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["ckpt", command, "--help"])
    assert ended.value.code == 0
    options = re.findall(r"^  (?:-\w, )?(--[\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert len(options) >= 2
    page = PAGE.read_text(encoding="utf-8")
    assert [option for option in options if f"`{option}" not in page] == []


def test_importing_the_library_imports_nothing_of_checkpoints() -> None:
    code = (
        "import sys, nnx_wrappers\n"
        "before = {n for n in sys.modules if n.startswith('nnx_wrappers.checkpoint')}\n"
        "nnx_wrappers.load_linen\n"
        "after = {n for n in sys.modules if n.startswith('nnx_wrappers.checkpoint')}\n"
        "print(len(before), 'nnx_wrappers.checkpoint' in after)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "0 True\n", done.stderr


def test_an_absent_package_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path / "a", 1.0)
    monkeypatch.setitem(sys.modules, "msgpack", None)
    assert main(["ckpt", "inspect", path]) == 2
    assert capsys.readouterr().err == (
        "error: a msgpack checkpoint needs the package msgpack, which is not installed: "
        "pip install 'nnx_wrappers[checkpoint]'\n"
    )
