// Methods in C++ for classes that are made at run time.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// The body of an override: `replaced` is the method that it overrides, `data` the argument of
// make_override. `args` begins with the instance.
using OverrideBody = nb::object (*)(nb::handle replaced, nb::handle data, const nb::tuple& args,
                                    const nb::dict& kwargs);

// A method that overrides `base.name`, which is looked up at each call, by `body`. It binds as a
// function does, and has the name, the docstring and the signature of the overridden method.
nb::object make_override(nb::handle base, nb::handle name, OverrideBody body, nb::handle data);

// True if `object` was made by make_method.
bool is_override(nb::handle object);

}  // namespace nnx_wrappers::py
