// Puts given leaves into a live module graph, in Flax's order and in place.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/state_tree.h"
#include "upstream/node.h"

namespace nnx_wrappers::graph {

// Chooses the value for one leaf of the graph among the leaves given for its
// path. `current` is the Variable, array ref or value that is there now. An
// invalid object means: leave it as it is. `given` has no leaf of its own, only
// leaves below, where the caller's value at this path is a mapping.
using Choose = std::function<nb::object(const Path& path, nb::handle current,
                                        upstream::NodeKind kind, const StateTree& given)>;

// Walks `root` and `given` together. A Variable is updated in place, an array
// ref is written, any other leaf is replaced in its node; tuples and generic
// pytrees on the way are rebuilt. Marks in `given` what it used. A node that is
// reached twice is loaded by its first path only, as Flax walks.
void load(nb::handle root, StateTree& given, const Choose& choose);

}  // namespace nnx_wrappers::graph
