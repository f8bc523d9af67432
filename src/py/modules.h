// Modules of Python, and the names in their dicts. Runs no user code.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// The value of a name in a dict with texts as keys, or an invalid object.
nb::object look_up(nb::handle dict, nb::handle name);

// A text of Python, or an empty one for everything else; `text` may be invalid.
std::string text_or_empty(nb::handle text);

// The `__name__` in the dict of a module, or an empty text.
std::string module_name(nb::handle dict);

// The module of this name, if it has been imported; else an invalid object.
nb::object imported_module(const std::string& name);

}  // namespace nnx_wrappers::py
