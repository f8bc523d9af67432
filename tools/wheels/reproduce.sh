#!/bin/sh
# Makes one of the wheels that `make wheels` made once more, in another folder, and compares the
# bytes: reproduce.sh FOLDER LINE PLATFORM
set -eu
folder=$1
other=$(mktemp -d)
trap 'rm -rf "$other"' EXIT
ZIG_GLOBAL_CACHE_DIR=$(realpath "$folder")/dist/zig-cache
export ZIG_GLOBAL_CACHE_DIR
"$(dirname "$0")/make.sh" "$other" "$2" "$3"
for made in "$other"/dist/*.whl "$other"/dist/*.tar.gz; do
  cmp "$made" "$folder/dist/$(basename "$made")"
  echo "the same bytes: $(basename "$made")"
done
