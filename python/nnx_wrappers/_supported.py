"""Where the package cannot be imported, and what to install there. Importing this checks it."""

import importlib.metadata
import importlib.util
import platform
import sys
import sysconfig
from pathlib import Path


def _requirements() -> str:
    try:
        needed = importlib.metadata.requires("nnx_wrappers") or []
    except importlib.metadata.PackageNotFoundError:
        needed = ["flax", "jax"]
    return " ".join(f"'{line}'" for line in needed if ";" not in line)


def _check_interpreter() -> None:
    if importlib.util.find_spec("nnx_wrappers._core") is not None:
        return
    built = [path.name.split(".")[1] for path in Path(__file__).parent.glob("_core.*.so")]
    here = f"{platform.python_implementation()} {platform.python_version()}"
    raise ImportError(
        f"nnx_wrappers: expected an extension for {here} on {sysconfig.get_platform()}, got "
        f"{'one for ' + ', '.join(sorted(built)) if built else 'none'}. Install the package with "
        f"this interpreter, CPython 3.11 to 3.13: {sys.executable} -m pip install nnx_wrappers."
    )


def _check_flax() -> None:
    # Not imported here: the library says itself what does not fit.
    if importlib.util.find_spec("flax") is None:
        raise ImportError(
            "nnx_wrappers needs Flax, which is not installed; install it: "
            f"{sys.executable} -m pip install {_requirements()}."
        )


_check_interpreter()
_check_flax()
