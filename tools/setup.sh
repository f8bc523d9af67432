#!/bin/sh
# Makes the virtual environment of one Python line and installs the pinned tools:
# setup.sh PYTHON VENV [REQUIREMENTS]. Does nothing where that has been done already.
set -eu
python=$1
venv=$2
requirements=${3:-requirements-dev.txt}
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  echo "setup: $python has no venv module; install it (Debian: apt-get install python3-venv)" >&2
  exit 1
fi
header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h
if [ ! -f "$header" ]; then
  echo "setup: $header is missing; install Python's headers (Debian: apt-get install python3-dev)" >&2
  exit 1
fi
stamp=$venv/.ready
if [ -f "$stamp" ] && cmp -s "$requirements" "$stamp"; then
  exit 0
fi
"$python" -m venv "$venv"
# Python compiles what is imported; most of what is installed never is.
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile -r "$requirements"
cp "$requirements" "$stamp"
