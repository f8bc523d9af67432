#!/bin/sh
# Writes the stub of the installed extension: make_stubs.sh PYTHON [FILE]
set -eu
exec "$1" -m nanobind.stubgen -q -m nnx_wrappers._core -o "${2:-python/nnx_wrappers/_core.pyi}"
