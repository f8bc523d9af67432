"""ASan, UBSan and LSan see faults, and are in the library that the tests load.

`make sanitize` runs this before all other tests: without it, a sanitizer that is not
there would look like code without faults.
"""

import os
import signal
import sys

import pytest

from programs import ROOT, assert_sanitized_library_is_loaded, run

FAULTS = {
    "heap_buffer_overflow": "AddressSanitizer: heap-buffer-overflow",
    "leak": "Direct leak of 4 byte(s) in 1 object(s)",
    "leak_of_a_python_object": "Direct leak of 36 byte(s) in 1 object(s)",
    "no_bool": "runtime error: load of value 2, which is not a valid value for type 'bool'",
    "past_the_end_of_a_vector": "Assertion '__n < this->size()' failed",
    "shift_too_far": "runtime error: shift exponent 32 is too large",
    "signed_overflow": "runtime error: signed integer overflow",
    "stack_buffer_overflow": "AddressSanitizer: stack-buffer-overflow",
    "use_after_free": "AddressSanitizer: heap-use-after-free",
    "use_of_a_freed_python_object": "AddressSanitizer: heap-use-after-free",
}
LEAKS_TOO = os.environ["ASAN_OPTIONS"] + ":detect_leaks=1"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_ends_the_process_with_a_report(fault: str) -> None:
    done = run(f"import _faults; _faults.{fault}()", ASAN_OPTIONS=LEAKS_TOO)
    assert FAULTS[fault] in done.stderr
    assert done.returncode != 0


def test_every_fault_is_tried() -> None:
    done = run("import _faults; print(*sorted(n for n in dir(_faults) if n[0] != '_'))")
    assert done.stdout.split() == sorted({*FAULTS, "race"})


def test_the_library_that_is_tested_has_the_sanitizers() -> None:
    assert_sanitized_library_is_loaded(
        b"__asan_report_load8", b"__ubsan_handle_type_mismatch_v1_abort"
    )


def test_a_leaked_binding_ends_the_process() -> None:
    leak = "ctypes.pythonapi.Py_IncRef(ctypes.py_object(_core.cache_info))"
    done = run(f"import ctypes; from nnx_wrappers import _core; {leak}")
    assert 'leaked function "cache_info"' in done.stderr
    assert done.returncode == -signal.SIGABRT


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Flax and JAX alone leave objects behind")
def test_using_everything_leaks_nothing() -> None:
    code = "from project import test_architecture; test_architecture.use_everything()"
    done = run(code, ROOT / "tests/python", ASAN_OPTIONS=LEAKS_TOO)
    assert done.stderr == ""
    assert done.returncode == 0
