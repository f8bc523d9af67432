#!/bin/sh
# Builds the extension so that its calls into Python can be made to fail, beside the one that
# is installed, and runs the tests that do: faults.sh PYTHON BUILDDIR [ARGUMENTS OF PYTEST]
set -eu
python=$("$1" -c 'import sys; print(sys.executable)')
build=$2
shift 2
PATH=$(dirname "$python"):$PATH # where the environment keeps ninja
export PATH CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
site=$build/site
mkdir -p "$site/nnx_wrappers"
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DNNX_WRAPPERS_DEV=ON -DNNX_WRAPPERS_FAULTS=ON \
  -DPython_EXECUTABLE="$python" >"$build/configure.log" || {
  cat "$build/configure.log" >&2
  exit 1
}
cmake --build "$build" --target _core
cp python/nnx_wrappers/*.py python/nnx_wrappers/*.pyi "$site/nnx_wrappers/"
cp --remove-destination "$build"/_core*.so "$site/nnx_wrappers/"
PYTHONPATH=$(cd "$site" && pwd) "$python" -m pytest tests/python/test_faults.py "$@"
