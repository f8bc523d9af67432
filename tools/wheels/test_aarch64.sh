#!/bin/sh
# Runs the wheel for aarch64 and Python 3.11 on this machine: test_aarch64.sh PYTHON FOLDER
# QEMU translates the instructions (Debian: apt-get install qemu-user). Python and the C library
# come from Debian's packages for arm64, unpacked and not installed; the rest from the index.
# PYTHON is any Python 3.11, whose pip is used.
set -eu
if ! command -v qemu-aarch64 >/dev/null; then
  echo "test_aarch64.sh: qemu-aarch64 is missing; install it: apt-get install qemu-user" >&2
  exit 1
fi
python=$1
wheel=$(realpath "$(find "$2" -maxdepth 1 -name '*-cp311-cp311-manylinux*_aarch64.whl')")
root=$2/../aarch64
mkdir -p "$root/apt/lists/partial" "$root/apt/cache/archives/partial" "$root/files"
root=$(realpath "$root")
touch "$root/apt/status"
apt() {
  apt-get --quiet --yes -o APT::Architecture=arm64 -o APT::Architectures=arm64 \
    -o Dir::State::Lists="$root/apt/lists" -o Dir::Cache="$root/apt/cache" \
    -o Dir::State::status="$root/apt/status" -o APT::Install-Recommends=false "$@" >"$root/apt/log" 2>&1
}
if [ ! -x "$root/files/usr/bin/python3.11" ]; then
  apt update
  apt install --download-only python3.11 libstdc++6
  for package in "$root"/apt/cache/archives/*.deb; do dpkg -x "$package" "$root/files"; done
fi
pins=$(sed -n 's/^\(flax\|jax\|jaxlib\)\(==[^;]*\); python_version < "3.12"$/\1\2/p' requirements-dev.txt)
rm -rf "$root/site"
# shellcheck disable=SC2086 # one word for each requirement
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --target "$root/site" \
  --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
  --platform manylinux_2_27_aarch64 --platform manylinux_2_28_aarch64 \
  --only-binary=:all: --python-version 3.11 $pins
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --target "$root/site" \
  --platform manylinux_2_17_aarch64 --only-binary=:all: --python-version 3.11 "$wheel"
QEMU_LD_PREFIX=$root/files PYTHONPATH=$root/site JAX_PLATFORMS=cpu \
  qemu-aarch64 -cpu max "$root/files/usr/bin/python3.11" tests/wheels/both_ways.py
