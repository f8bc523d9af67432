// Loads the variables of a Linen scope into the NNX module that ToLinen made.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "graph/path.h"
#include "graph/state_tree.h"

namespace nnx_wrappers::bridge {

// Loads the unused variables of `given` into the module: into the leaves at their paths, and as new
// attributes into ToNNX modules. Variables of Linen modules that the constructor made belong to
// those, since Linen has adopted them. For paths that the module does not have, warns and makes the
// missing modules. Throws ValueError if the variables have texts of numbers as keys while
// collections may change, since the changed variables would be stored at the numbers.
void load_variables(nanobind::handle self, nanobind::handle nnx_module, graph::StateTree& given);

// Warns that these parameters of the module, as paths without their collection, were not given, so
// that they have initial values.
void warn_missing_parameters(const std::vector<graph::Path>& paths);

// The paths of the module's parameters that `given` does not have.
std::vector<graph::Path> missing_parameters(nanobind::handle nnx_module, graph::StateTree& given);

}  // namespace nnx_wrappers::bridge
