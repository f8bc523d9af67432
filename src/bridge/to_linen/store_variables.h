// Stores the state of the NNX module that ToLinen made in a Linen scope.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/path.h"

namespace nnx_wrappers::bridge {

// Converts the state of the module with the metadata_fn of `self`, and puts it into those
// collections that are mutable in the scope of `self`. If a conversion fails, nothing is stored.
// Only paths for which `wanted` is true are stored.
void store_variables(nanobind::handle self, nanobind::handle nnx_module,
                     const std::function<bool(const graph::Path&)>& wanted);

}  // namespace nnx_wrappers::bridge
