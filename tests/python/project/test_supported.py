"""Where the package cannot be used it says so when it is imported, and what to install."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nnx_wrappers


def import_error(*folders: Path, first: str = "") -> str:
    """The last line of what an interpreter says that imports the package from these folders."""
    program = f"import sys; sys.path[:0] = {[str(folder) for folder in folders]}\n{first}\n"
    done = subprocess.run(
        [sys.executable, "-c", program + "import nnx_wrappers"], capture_output=True, text=True
    )
    assert done.returncode != 0
    return done.stderr.strip().splitlines()[-1]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The Python files of the package, without the extension."""
    package = tmp_path / "copy/nnx_wrappers"
    package.mkdir(parents=True)
    for file in Path(nnx_wrappers.__file__).parent.glob("*.py"):
        shutil.copy(file, package)
    return package


def test_an_extension_for_another_interpreter_is_named(copied: Path) -> None:
    (copied / "_core.cpython-39-aarch64-linux-gnu.so").touch()
    error = import_error(copied.parent)
    assert error.startswith("ImportError: nnx_wrappers: expected an extension for CPython 3.")
    assert "got one for cpython-39-aarch64-linux-gnu. Install the package with" in error
    assert f"{sys.executable} -m pip install nnx_wrappers." in error


def test_a_package_without_extension_says_so(copied: Path) -> None:
    assert ", got none. Install the package with" in import_error(copied.parent)


def test_a_missing_flax_is_named_with_what_to_install() -> None:
    error = import_error(first="sys.modules['flax'] = None")
    assert error.startswith("ImportError: nnx_wrappers needs Flax, which is not installed; ")
    assert "-m pip install 'flax" in error
