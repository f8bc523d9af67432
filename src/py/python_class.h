// The Python classes of the package nnx_wrappers, for C++ code that makes instances of them. They
// are looked up by name at each call, since the package defines them after it has loaded the
// library.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

// The class `name` of a module of the package. Throws ImportError if there is no such package or
// class.
nanobind::object python_class(const char* name, const char* module = "nnx_wrappers");

}  // namespace nnx_wrappers::py
