// Storing the state of the NNX module that ToLinen made in a Linen scope.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/path.h"

namespace nnx_wrappers::bridge {

// Collects the state of the module by collection, for collections that are mutable
// in the scope of `self` only, converts it by the metadata_fn of `self`, and puts it
// into the scope: all of it or, if a conversion fails, nothing. `wanted` may leave
// paths out.
void store_variables(nanobind::handle self, nanobind::handle nnx_module,
                     const std::function<bool(const graph::Path&)>& wanted);

}  // namespace nnx_wrappers::bridge
