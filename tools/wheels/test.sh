#!/bin/sh
# Tests a wheel of this machine as a user gets it: test.sh PYTHON FOLDER
# FOLDER has what make.sh made. Everything runs in new environments, without the variables of the
# caller; the Python tests see no compiler, no headers and no CMake.
set -eu
python=$1
folder=$2
tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
wheel=$(realpath "$(find "$folder" -maxdepth 1 -name "*-$tag-$tag-manylinux*_$(uname -m).whl")")
sdist=$(realpath "$(find "$folder" -maxdepth 1 -name '*.tar.gz')")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clean() { # a program with nothing of the caller's but the network's settings
  env -i PATH="$PATH_OF_TEST" HOME="$work" JAX_PLATFORMS=cpu JAX_DISABLE_MOST_OPTIMIZATIONS=1 CI=true \
    CMAKE_BUILD_PARALLEL_LEVEL=2 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} ${PIP_CACHE_DIR:+PIP_CACHE_DIR="$PIP_CACHE_DIR"} "$@"
}

"$python" -m venv "$work/venv"
venv=$work/venv/bin
PATH_OF_TEST=$venv
for tool in cc c++ gcc g++ clang cmake ninja make; do
  if clean sh -c "command -v $tool" 2>/dev/null; then
    echo "test.sh: $tool is on the PATH of the clean environment" >&2
    exit 1
  fi
done

echo "== $(basename "$wheel") is installed, with its dependencies"
clean "$venv/python" -m pip install --quiet -c requirements-dev.txt "$wheel"
find "$work/venv" -path '*nnx_wrappers*' | grep -q . || exit 1
clean "$venv/python" -m pip install --quiet -r tests/wheels/requirements.txt
# Other libraries with a C++ runtime of their own, for tests/wheels/test_imports.py.
if [ -n "${WHEEL_OTHERS:-}" ]; then
  # shellcheck disable=SC2086
  clean "$venv/python" -m pip install --quiet -c requirements-dev.txt $WHEEL_OTHERS
fi
clean "$venv/python" -c 'import nnx_wrappers; print(nnx_wrappers.__version__, nnx_wrappers.__file__)'

echo "== examples of the README and of the docstrings, imports, a part of the layers"
test() {
  clean "$venv/python" -m pytest -q --no-header -p no:cacheprovider "$@"
}
test tests/python/project/test_docs.py -k "code_of_a_page and README"
test tests/python/project/test_docstrings.py tests/python/project/test_supported.py
test tests/wheels
test --share "${SHARE:-1/40}" tests/python/layers/linen/test_layers.py
test --share "${SHARE:-1/40}" tests/python/layers/nnx/test_layers.py

echo "== the C++ example is built against the wheel"
PATH_OF_TEST=$PATH clean env CMAKE_GENERATOR="Unix Makefiles" \
  tools/run_example.sh "$venv/python" "$work/example"

echo "== nothing is left when it is uninstalled"
clean "$venv/python" -m pip uninstall --quiet --yes nnx_wrappers
left=$(find "$work/venv" -path '*nnx_wrappers*')
if [ -n "$left" ]; then
  echo "test.sh: left behind: $left" >&2
  exit 1
fi

echo "== $(basename "$sdist") is built by what pyproject.toml names, a compiler and CMake"
PATH_OF_TEST=$venv:/usr/local/bin:/usr/bin:/bin
clean "$venv/python" -m pip wheel --quiet --no-deps --wheel-dir "$work/built" "$sdist"
clean "$venv/python" -m pip install --quiet --no-deps "$work"/built/*.whl
clean "$venv/python" -c 'import nnx_wrappers; print(nnx_wrappers.__version__, nnx_wrappers.__file__)'
