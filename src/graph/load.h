// Loads given leaves into a live module graph, in place and in Flax's order.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/state_tree.h"
#include "upstream/node.h"

namespace nnx_wrappers::graph {

// Chooses the value for a leaf of the graph from what was given at its path. `current` is the
// Variable, array ref or value that is there now. If it returns an invalid object, that stays.
// `given` has leaves below the path only, and none at it, if the caller gave a mapping there.
using ChooseValue = std::function<nb::object(const Path& path, nb::handle current,
                                             upstream::NodeKind kind, const StateTree& given)>;

// Walks `root` and `given` together. The value of a Variable is set, an array ref is written, and
// any other leaf is replaced in its node. Nodes that cannot be changed in place (tuples, pytrees)
// are rebuilt. Marks as used in `given` what the graph has. As in Flax, a shared node is loaded at
// its first path only.
void load(nb::handle root, StateTree& given, const ChooseValue& choose);

}  // namespace nnx_wrappers::graph
