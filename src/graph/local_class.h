// Classes that a constructor defines, so that each call has another one.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// The part of a qualified name that says that a function has defined the class or function.
inline constexpr const char* kLocals = ".<locals>.";

// True if the class or a base of it was defined in a method `__init__`; or in some other function,
// and its attributes or what its methods close over are tracers, or modules and Variables of the
// current trace.
bool is_call_local(nb::handle type);

}  // namespace nnx_wrappers::graph
