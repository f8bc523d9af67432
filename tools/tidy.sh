#!/bin/sh
# Runs clang-tidy over the C++ code, some files at a time: tidy.sh PYTHON BUILDDIR
# The log goes to BUILDDIR; PYTHON's environment has clang-tidy.
set -eu
python=$1
build=$2
tidy=$(dirname "$python")/clang-tidy
log=$build/tidy.log
# Each file by itself, so that none needs what another one includes.
cmake -S . -B "$build/tidy" -DCMAKE_UNITY_BUILD=OFF -DNNX_WRAPPERS_DEV=ON \
  -DPython_EXECUTABLE="$(realpath -s "$python")" >"$log"
# The commands are written for GCC, whose names of warnings Clang need not know; what is
# deprecated in GCC's own headers is not ours.
find src -name '*.cc' -print0 |
  xargs -0 -P "$(nproc)" -n 4 \
    "$tidy" --quiet -p "$build/tidy" --extra-arg=-Wno-unknown-warning-option \
    --extra-arg=-Wno-deprecated-declarations >"$log" 2>"$log.errors" || {
  cat "$log"
  grep -v 'warnings\? .*generated' "$log.errors" >&2 || true
  exit 1
}
"$tidy" --quiet examples/cpp/main.cc -- -std=c++20 -Iinclude -I"$build/tidy/include" \
  $("$python" -c 'import nanobind, sysconfig
print("-isystem", nanobind.include_dir(), "-isystem", sysconfig.get_paths()["include"])') \
  2>/dev/null
