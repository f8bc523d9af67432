// The Python classes of the package nnx_wrappers, for C++ code that makes
// instances of them. Looked up by name each time: they are made after the library.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

// The class `name` of a module of the package; throws ImportError with a remedy if
// the package is missing.
nanobind::object python_class(const char* name, const char* module = "nnx_wrappers");

}  // namespace nnx_wrappers::py
