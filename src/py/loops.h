// Loops in Python code, which tell what is likely to run again.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// True if the function that called the innermost Python function is at a place inside a loop of its
// code, or if one that called it is, as far as `is_of_interest` is true for their globals. Slow:
// reads bytecode.
bool caller_is_in_loop(const std::function<bool(nb::handle globals)>& is_of_interest);

// True if a code object has a loop, or one that it holds: a comprehension, a local function.
bool has_loop(nb::handle code);

}  // namespace nnx_wrappers::py
