#!/bin/sh
# Makes the sdist of the commit that is checked out, and wheels from it:
# make.sh FOLDER LINES PLATFORMS, as in make.sh build/wheels "python3.11 python3.13" "manylinux_2_17_x86_64"
# What is not committed is left out. Times in the archives are that of the commit, so that it
# always gives the same bytes.
set -eu
here=$(dirname "$0")
folder=$1
lines=$2
platforms=$3
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH CMAKE_BUILD_PARALLEL_LEVEL="${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"

rm -rf "$folder/source" "$folder/sdist" "$folder/dist"
mkdir -p "$folder/source" "$folder/sdist" "$folder/dist"
git archive HEAD | tar -x -C "$folder/source"
for line in $lines; do
  real=$(tools/find_python.sh "$line")
  venv=$folder/venv-$("$real" -c 'import sys; print(sys.implementation.cache_tag)')
  tools/setup.sh "$real" "$venv" "$here/requirements.txt"
  python=$(realpath -s "$venv/bin/python")
  export ZIG_PYTHON="${ZIG_PYTHON:-$python}"
  if [ ! -e "$folder/sdist/pyproject.toml" ]; then
    out=$(realpath "$folder/dist")
    (cd "$folder/source" && "$python" -c "
import sys
from scikit_build_core.build import build_sdist
build_sdist(sys.argv[1])" "$out")
    tar -xzf "$folder"/dist/*.tar.gz -C "$folder/sdist" --strip-components=1
  fi
  for platform in $platforms; do
    echo "$line, $platform"
    "$here/build.sh" "$python" "$platform" "$folder/sdist" "$folder"
  done
done
"$python" "$here/check.py" "$folder/dist"
