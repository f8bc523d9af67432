// Methods written in C++ for classes that are made at run time.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// `replaced` is what the method stands for, `data` what it was made with. `args` begins
// with the instance.
using MethodBody = nb::object (*)(nb::handle replaced, nb::handle data, const nb::tuple& args,
                                  const nb::dict& kwargs);

// A method that runs `body` in place of `base.name`, which is looked up at each call. It
// binds as a function does, and has the name, the docstring and the signature of what it
// replaces.
nb::object make_method(nb::handle base, nb::handle name, MethodBody body, nb::handle data);

// True if `object` was made by make_method.
bool is_made_method(nb::handle object);

}  // namespace nnx_wrappers::py
