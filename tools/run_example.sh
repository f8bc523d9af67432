#!/bin/sh
# Builds examples/cpp against the package that is installed for PYTHON, and runs it:
# run_example.sh PYTHON BUILDDIR
set -eu
python=$("$1" -c 'import sys; print(sys.executable)')
build=$2
PATH=$(dirname "$python"):$PATH # where the environment keeps ninja
export PATH CMAKE_GENERATOR="${CMAKE_GENERATOR:-Ninja}"
mkdir -p "$build"
# The interpreter is named, so that CMake takes its libpython and no other's.
cmake -S examples/cpp -B "$build" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_PREFIX_PATH="$("$python" -c 'import nnx_wrappers; print(nnx_wrappers.get_cmake_dir())')" \
  -DPython_EXECUTABLE="$python" >"$build/configure.log" || {
  cat "$build/configure.log" >&2
  exit 1
}
cmake --build "$build"
"$build/example" "$python"
