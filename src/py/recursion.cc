#include "py/recursion.h"

#include <algorithm>
#include <cstdint>

#if defined(__linux__)
#include <pthread.h>
#endif

namespace nnx_wrappers::py {

namespace {

// The stack that the last level leaves free for the functions that it calls, and for cleaning up.
constexpr std::uintptr_t kMargin = 256UL * 1024;

// The lowest address that recursion may reach in this thread: it leaves `margin` bytes of the stack
// free, or one `part`-th of the stack if that is less. 0 where the stack's size is not known.
// Stacks grow downwards on every platform that the library is built for.
std::uintptr_t find_floor(std::uintptr_t margin, std::uintptr_t part) {
#if defined(__linux__)
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return 0;
  void* lowest = nullptr;
  std::size_t size = 0;
  const bool known = pthread_attr_getstack(&attributes, &lowest, &size) == 0;
  pthread_attr_destroy(&attributes);
  if (!known) return 0;
  return reinterpret_cast<std::uintptr_t>(lowest) + std::min<std::uintptr_t>(margin, size / part);
#else
  return static_cast<void>(margin), static_cast<void>(part), 0;
#endif
}

std::uintptr_t here() {
  // The address of a variable would not do, since AddressSanitizer may keep variables elsewhere.
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

bool is_stack_used_up() {
  thread_local const std::uintptr_t floor = find_floor(kMargin, 4);
  return here() < floor;
}

}  // namespace

bool is_stack_low() {
  thread_local const std::uintptr_t floor = find_floor(4UL * 1024 * 1024, 2);
  return here() < floor;
}

// The interpreter counts levels only, and its limit suits its own frames on a stack of the usual
// size. In Python 3.11 it can be any number that sys.setrecursionlimit was given.
RecursionGuard::RecursionGuard(const char* where) {
  if (is_stack_used_up()) {
    PyErr_Format(PyExc_RecursionError, "maximum recursion depth exceeded%s", where);
    throw nanobind::python_error();
  }
  if (Py_EnterRecursiveCall(where) != 0) throw nanobind::python_error();
}

}  // namespace nnx_wrappers::py
