#!/bin/sh
# Runs tests under sanitizers: sanitize.sh memory|threads PYTHON BUILDDIR [PYTEST ARGUMENTS]
# BUILDDIR was built with NNX_WRAPPERS_SANITIZE, and BUILDDIR/site has its package;
# PYTHON's environment has everything else. docs/explanation/reliability.md says what each finds.
set -eu
kind=$1
python=$2
build=$(realpath "$3")
shift 3
here=$PWD/tests/sanitizers
reports=$build/reports
rm -rf "$reports"
mkdir "$reports"

PYTHONPATH=$build/site
NNX_WRAPPERS_SANITIZED=$build
export PYTHONPATH NNX_WRAPPERS_SANITIZED

# Python is not linked with the sanitizer, which must come first all the same; and it
# must find the C++ runtime when it starts, or it cannot follow the exceptions of JAX.
library() { "${CXX:-c++}" -print-file-name="$1"; }
checked() {
  LD_PRELOAD=$runtime:$(library libstdc++.so) "$python" -m pytest -p no:cacheprovider "$@"
}

if [ "$kind" = threads ]; then
  runtime=$(library libtsan.so)
  # This library has no locks, so what is said of locks is about others.
  TSAN_OPTIONS=suppressions=$here/suppressions.threads:report_mutex_bugs=0:detect_deadlocks=0
  export TSAN_OPTIONS
  checked "$here/test_threads.py"
  exit
fi

runtime=$(library libasan.so)
PYTHONMALLOC=malloc # each object of Python is a block that the sanitizer knows
UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
LSAN_OPTIONS=suppressions=$here/suppressions.leaks:print_suppressions=0
ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export PYTHONMALLOC UBSAN_OPTIONS LSAN_OPTIONS ASAN_OPTIONS
# Frames are some times larger, and tests go as deep as the interpreter allows.
ulimit -s 65536 2>/dev/null || ulimit -s "$(ulimit -H -s)"

ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0 checked -q "$here/test_memory.py"
# On Python 3.11 importing Flax and JAX leaves objects behind, with no more to tell them
# from ours by than that Python made them.
leaks=$("$python" -c 'import sys; print(int(sys.version_info >= (3, 12)))')
ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=$leaks ctest --test-dir "$build" -j 2 --output-on-failure

# pytest holds what a process wrote that ended, so reports go to files. No leaks here:
# the compilers and shells that tests start do not free what they have at the end.
log=log_path=$reports/report
ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0:$log UBSAN_OPTIONS=$UBSAN_OPTIONS:$log \
  checked -n 2 --dist worksteal "${@:-tests/python}" || failed=$?
for report in "$reports"/*; do
  [ ! -f "$report" ] || { cat "$report" >&2; failed=1; }
done
exit "${failed:-0}"
