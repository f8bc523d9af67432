// Paths that cannot live side by side in one NNX module.
#pragma once

#include <string>

#include "graph/state_tree.h"

namespace nnx_wrappers::bridge {

// Throws ValueError if a leaf's path is a prefix of another leaf's path.
void refuse_conflicts(const graph::StateTree& tree, const std::string& where);

// Throws ValueError if two collections have a leaf at the same path.
void refuse_duplicates(const graph::StateTree& tree, const std::string& where);

}  // namespace nnx_wrappers::bridge
