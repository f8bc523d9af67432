// The bodies of the methods of the Python class nnx_wrappers.Functional, an NNX class as a
// pair of pure functions, and of with_partitioning. All need the GIL.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// Functional.init: constructs the module (with `rngs` unless it is None), remembers
// its graphdef in `self` and returns its State.
nanobind::object functional_init(nanobind::handle self, nanobind::handle rngs);

// Functional.apply: the caller object of the remembered graphdef for these states.
// Throws ValueError before `init`.
nanobind::object functional_apply(nanobind::handle self, const nanobind::tuple& states);

// flax.nnx.with_partitioning whose Variables become nn.Partitioned boxes in Linen.
nanobind::object with_partitioning(nanobind::handle initializer, nanobind::handle names,
                                   nanobind::handle mesh);

}  // namespace nnx_wrappers::bridge
