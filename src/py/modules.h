// Python modules by name. Runs no user code.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// The text of a str; empty for an invalid handle and for every other object.
std::string text_or_empty(nb::handle text);

// The `__name__` in a module's dict; empty if it has none.
std::string module_name(nb::handle dict);

// The module of this name, or an invalid object if it has not been imported.
nb::object imported_module(const std::string& name);

}  // namespace nnx_wrappers::py
