// The streams of an nnx.Rngs.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "py/containers.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The items (name, stream) of an nnx.Rngs, in the order of `rngs.items()`. They are read from the
// instance's dict, since nnx.tabulate replaces the methods of nnx.Rngs by jitted functions, which
// cannot return streams. Only an `items` that a subclass defines is called.
std::vector<py::Item> streams_of(nb::handle rngs);

}  // namespace nnx_wrappers::upstream
