// Classes that a constructor made: each call makes another.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// In the qualified names of what a function made.
inline constexpr const char* kLocals = ".<locals>.";

// True if the class, or a base of it, was made in a method `__init__`, or if it was made in
// some function and its methods close over arrays of a trace, or over modules and Variables of
// the present one.
bool is_call_local(nb::handle type);

}  // namespace nnx_wrappers::graph
