// JAX's own initializers.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// True if `init_fn(key, shape, ...)` gives an array of this shape whatever the lengths of its axes,
// as long as there is one element at least, if it does so for one shape of as many axes:
// jax.nn.initializers.zeros and ones, and what uniform, normal, truncated_normal and
// variance_scaling (lecun_normal and the like) return. A scale that is an array might add axes, and
// for such an initializer the answer is false.
bool works_for_all_lengths(nb::handle init_fn);

}  // namespace nnx_wrappers::upstream
