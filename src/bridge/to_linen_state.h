// Moving variables between a Linen scope and the NNX module that ToLinen made.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/path.h"

namespace nnx_wrappers::bridge {

// Loads the variables in the scope of `self` into the module in place: Variables by
// path, the state of ToNNX modules as new attributes. Variables of Linen modules
// that the constructor made, and Linen adopted, are theirs. Warns about paths that
// the module does not have and builds the modules that are missing on the way there.
void load_variables(nanobind::handle self, nanobind::handle nnx_module);

// Collects the state of the module by collection, for collections that are mutable
// in the scope of `self` only, converts it by the metadata_fn of `self`, and puts it
// into the scope: all of it or, if a conversion fails, nothing. `wanted` may leave
// paths out.
void store_variables(nanobind::handle self, nanobind::handle nnx_module,
                     const std::function<bool(const graph::Path&)>& wanted);

}  // namespace nnx_wrappers::bridge
