// CPython's internal headers, for frames and the GIL. Files that include this are written for
// Python 3.11 to 3.13.
#pragma once

#include <Python.h>

// Makes the headers use the compiler's atomics, since those of C do not compile as C++.
#undef HAVE_STD_ATOMIC
#define Py_BUILD_CORE 1
// In Python 3.12 a macro of the public headers has the name of a function of these.
#undef _PyGC_FINALIZED
extern "C" {
#include <internal/pycore_frame.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_runtime.h>
}
#undef Py_BUILD_CORE
