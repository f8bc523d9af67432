// Functions of C, which nobody can look into: whether they answer the same at every call.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// Why a call of this function of C may answer otherwise the next time, or an empty string.
// `owner` is the object or module that it is bound to, or invalid; `by_user` is true if the
// user's own code calls it, and false for code of the standard library.
std::string reason_not_repeatable(nb::handle callable, nb::handle owner, bool by_user);

}  // namespace nnx_wrappers::upstream
