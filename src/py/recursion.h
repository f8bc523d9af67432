// Guards C++ recursion over user structures by the interpreter's own limit, and by the
// stack that the thread has.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

// Enters one level in its constructor, leaves it in its destructor, also when
// an exception passes. Throws RecursionError (as nb::python_error) when too deep.
class RecursionGuard {
 public:
  explicit RecursionGuard(const char* where);
  ~RecursionGuard() { Py_LeaveRecursiveCall(); }
  RecursionGuard(const RecursionGuard&) = delete;
  RecursionGuard& operator=(const RecursionGuard&) = delete;
};

// True if this thread has used half of its stack, or all but 4 MiB of it.
bool is_stack_low();

}  // namespace nnx_wrappers::py
