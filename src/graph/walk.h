// One walk over a module graph in Flax's order: each shared node once, by its
// first path. No bridge rules here: what to do with a leaf is the caller's.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/path.h"
#include "upstream/node.h"

namespace nnx_wrappers::graph {

struct WalkEvents {
  // A Variable, an array ref or another leaf value. May be empty.
  std::function<void(const Path& path, nb::handle leaf, upstream::NodeKind kind)> on_leaf;
  // A node, before its children; return false to leave its children out. May be empty.
  std::function<bool(const Path& path, nb::handle node, upstream::NodeKind kind)> on_node;
};

// Walks from `root`, which may be any object. Borrows `root`; owns what it
// visits for as long as the walk lasts, so user code may change the graph.
// Throws RecursionError on graphs deeper than the interpreter's limit.
void walk(nb::handle root, const WalkEvents& events);

// Every nnx.Pytree of the graph (nodes with initializing flags), `root` first.
std::vector<nb::object> pytrees_of(nb::handle root);

}  // namespace nnx_wrappers::graph
