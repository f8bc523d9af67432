// Loading the variables of a Linen scope into the NNX module that ToLinen made.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "graph/path.h"
#include "graph/state_tree.h"

namespace nnx_wrappers::bridge {

// Loads the variables that nobody has taken yet into the module in place: Variables by
// path, the state of ToNNX modules as new attributes. Variables of Linen modules
// that the constructor made, and Linen adopted, are theirs. Warns about paths that
// the module does not have and builds the modules that are missing on the way there. ValueError for
// texts of numbers as keys where collections may change: what changes would stand beside them.
void load_variables(nanobind::handle self, nanobind::handle nnx_module, graph::StateTree& given);

// Warns once that these parameters of the module (paths without their collection) were
// not given and have initial values.
void warn_missing_parameters(const std::vector<graph::Path>& paths);

// The parameters of the module that `given` does not have.
std::vector<graph::Path> missing_parameters(nanobind::handle nnx_module, graph::StateTree& given);

}  // namespace nnx_wrappers::bridge
