// A walk over a module graph in Flax's order. A shared node is visited once, at its first path.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/path.h"
#include "upstream/node.h"

namespace nnx_wrappers::graph {

// The functions that a walk calls. Either may be empty.
struct WalkEvents {
  // Called for a Variable, an array ref or another leaf.
  std::function<void(const Path& path, nb::handle leaf, upstream::NodeKind kind)> on_leaf;
  // Called for a node before its children. Returns false to skip the children.
  std::function<bool(const Path& path, nb::handle node, upstream::NodeKind kind)> on_node;
};

// Walks from `root`, which may be any object. The events may change the graph: the walk owns the
// objects that it visits. Throws RecursionError if the graph is too deep.
void walk(nb::handle root, const WalkEvents& events);

// Every nnx.Pytree of the graph, in the order of the walk.
std::vector<nb::object> pytrees_of(nb::handle root);

}  // namespace nnx_wrappers::graph
