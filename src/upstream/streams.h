// The streams of an nnx.Rngs.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "py/containers.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// (name, stream) in the order of rngs.items(). Read from the instance, since nnx.tabulate
// puts jitted functions, which cannot return streams, in the place of methods of nnx.Rngs. A
// subclass with an `items` of its own is asked for it.
std::vector<py::Item> streams_of(nb::handle rngs);

}  // namespace nnx_wrappers::upstream
