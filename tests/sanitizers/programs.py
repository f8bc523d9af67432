"""Programs that run under the sanitizers of `make sanitize` and `make sanitize-threads`."""

import os
import subprocess
import sys
from pathlib import Path

import nnx_wrappers._core

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["NNX_WRAPPERS_SANITIZED"])


def run(code: str, *folders: Path, **options: str) -> subprocess.CompletedProcess[str]:
    """Runs a program that finds the library that is tested, and the module `_faults`."""
    path = [BUILD / "site", BUILD / "tests/sanitizers", *folders]
    environment = {**os.environ, **options, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def assert_sanitized_library_is_loaded(*marks: bytes) -> None:
    library = Path(nnx_wrappers._core.__file__)
    assert library.is_relative_to(BUILD / "site")
    assert Path(nnx_wrappers.__file__).parent == library.parent
    contents = library.read_bytes()
    assert [mark for mark in marks if mark not in contents] == []
