#!/bin/sh
# Makes one of the wheels that `make wheels` made once more, in another folder, and compares the
# bytes: reproduce.sh FOLDER LINE PLATFORM
set -eu
folder=$1
other=$(mktemp -d)
trap 'rm -rf "$other"' EXIT
# Compiling the C++ runtime once is enough.
tag=$("$(tools/find_python.sh "$2")" -c 'import sys; print(sys.implementation.cache_tag)')
ZIG_PYTHON=${ZIG_PYTHON:-$(realpath -s "$folder/venv-$tag/bin/python")}
ZIG_GLOBAL_CACHE_DIR=${ZIG_GLOBAL_CACHE_DIR:-$(realpath "$folder/zig-cache")}
export ZIG_PYTHON ZIG_GLOBAL_CACHE_DIR
"$(dirname "$0")/make.sh" "$other" "$2" "$3"
for made in "$other"/dist/*.whl "$other"/dist/*.tar.gz; do
  cmp "$made" "$folder/dist/$(basename "$made")"
  echo "the same bytes: $(basename "$made")"
done
