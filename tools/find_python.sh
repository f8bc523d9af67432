#!/bin/sh
# Prints the path of a working Python: find_python.sh python3.13
# Looks on PATH and, since a pyenv shim may point at nothing, among pyenv's versions.
name=${1:-python3.11}
if path=$("$name" -c 'import sys; print(sys.executable)' 2>/dev/null); then
  echo "$path"
  exit 0
fi
version=${name##*python}
for candidate in "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version"*/bin/"python$version"; do
  if [ -x "$candidate" ]; then
    echo "$candidate"
    exit 0
  fi
done
echo "find_python.sh: no working $name on PATH or among pyenv's versions; install it or pass PYTHON=..." >&2
exit 1
