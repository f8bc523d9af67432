// Limits C++ recursion over the user's structures, by the interpreter's recursion limit and by the
// size of the thread's stack.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

// One level of a recursion, from constructor to destructor. The constructor throws RecursionError
// if the recursion is too deep; its message ends with `where`, as in " while walking a graph".
class RecursionGuard {
 public:
  explicit RecursionGuard(const char* where);
  ~RecursionGuard() { Py_LeaveRecursiveCall(); }
  RecursionGuard(const RecursionGuard&) = delete;
  RecursionGuard& operator=(const RecursionGuard&) = delete;
};

// True if less than half of this thread's stack is left, and less than 4 MiB.
bool is_stack_low();

}  // namespace nnx_wrappers::py
