// Paths that one NNX module cannot have together.
#pragma once

#include <string>

#include "graph/state_tree.h"

namespace nnx_wrappers::bridge {

// Throws ValueError if a leaf's path is a prefix of another leaf's path.
void refuse_prefix_paths(const graph::StateTree& tree, const std::string& where);

// Throws ValueError if two collections have a leaf at the same path.
void refuse_duplicates(const graph::StateTree& tree, const std::string& where);

}  // namespace nnx_wrappers::bridge
