// Whether C functions, which no guard can look into, return the same at every call.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// Why this C function may return something else at the next call; empty if it returns the same.
// `owner` is the object or module that it is bound to, or invalid. `by_user` is true if the user's
// own code calls it, and false if the standard library does.
std::string reason_not_repeatable(nb::handle callable, nb::handle owner, bool by_user);

}  // namespace nnx_wrappers::upstream
