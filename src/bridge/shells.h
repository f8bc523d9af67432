// The Python classes of the package nnx_wrappers, for C++ code that makes
// instances of them. Looked up by name each time: they are made after the library.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// nnx_wrappers.<name>; throws ImportError with a remedy if the package is missing.
nanobind::object shell(const char* name);

}  // namespace nnx_wrappers::bridge
