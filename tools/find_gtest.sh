#!/bin/sh
# Prints the root of GoogleTest's sources: the system's, or Debian's package
# unpacked into the given directory (no root needed).
set -eu
into=$1
for root in /usr/src/googletest "$into/usr/src/googletest"; do
  if [ -f "$root/CMakeLists.txt" ]; then
    echo "$root"
    exit 0
  fi
done
mkdir -p "$into"
(
  cd "$into"
  apt-get download googletest >&2 || { apt-get update >&2 && apt-get download googletest >&2; }
  dpkg -x googletest_*.deb .
) || {
  echo "find_gtest.sh: GoogleTest is missing and could not be fetched; install it (Debian: apt-get install googletest)" >&2
  exit 1
}
echo "$into/usr/src/googletest"
