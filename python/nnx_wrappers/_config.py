"""Where the C++ library is installed."""

from pathlib import Path

_ROOT = Path(__file__).parent


def get_include() -> str:
    """The directory to add to a compiler's include path.

    Returns:
      The absolute path of the directory that holds `nnx_wrappers/` with the headers.
    """
    return str(_ROOT / "include")


def get_cmake_dir() -> str:
    """The directory to add to CMAKE_PREFIX_PATH for `find_package(nnx_wrappers)`.

    Returns:
      The absolute path of the directory that holds `nnx_wrappersConfig.cmake`.
    """
    return str(_ROOT / "cmake")
