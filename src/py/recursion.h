// Guards C++ recursion over user structures by the interpreter's own limit.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

// Enters one level in its constructor, leaves it in its destructor, also when
// an exception passes. Throws RecursionError (as nb::python_error) when too deep.
class RecursionGuard {
 public:
  explicit RecursionGuard(const char* where) {
    if (Py_EnterRecursiveCall(where) != 0) throw nanobind::python_error();
  }
  ~RecursionGuard() { Py_LeaveRecursiveCall(); }
  RecursionGuard(const RecursionGuard&) = delete;
  RecursionGuard& operator=(const RecursionGuard&) = delete;
};

}  // namespace nnx_wrappers::py
