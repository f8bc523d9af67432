// The interpreters that the library refuses.
#pragma once

#include <nanobind/nanobind.h>

#ifdef Py_GIL_DISABLED
#error "nnx_wrappers needs a Python with the GIL; build it for one that is not free-threaded."
#endif

namespace nnx_wrappers::py {

// Throws ImportError in a subinterpreter, since objects that the library holds for the life of the
// process belong to one interpreter.
inline void require_main_interpreter() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return;
  PyErr_SetString(PyExc_ImportError,
                  "nnx_wrappers works in the main interpreter only; import it there, and not in "
                  "a subinterpreter.");
  throw nanobind::python_error();
}

}  // namespace nnx_wrappers::py
