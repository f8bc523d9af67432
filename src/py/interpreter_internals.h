// The internal headers of CPython: the frame that is about to run, and the interpreter's lock.
// For the files of src/py that say so; they are written for Python 3.11 to 3.13.
#pragma once

#include <Python.h>

// The headers then use the compiler's atomics: those of C are no C++.
#undef HAVE_STD_ATOMIC
#define Py_BUILD_CORE 1
extern "C" {
#include <internal/pycore_frame.h>
#include <internal/pycore_interp.h>
#include <internal/pycore_runtime.h>
}
#undef Py_BUILD_CORE
