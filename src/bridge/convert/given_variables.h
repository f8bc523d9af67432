// The variables that a caller gives for a module: as a tree by paths, and the value for each leaf.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/path.h"
#include "graph/state_tree.h"

namespace nnx_wrappers::bridge {

inline constexpr const char* kApply = "ToLinen.apply";  // in errors

// The variables of a scope as a tree. Throws ValueError for paths that
// contradict each other.
graph::StateTree given_variables(nanobind::handle variables);

// The value given for one leaf of a module, unboxed, and marked as used; an invalid
// object if there is none. `collection` is that of the leaf's type, or invalid. It is not taken,
// only given, where variables stand below the path, or where `fits` refuses it.
struct TakenLeaf {
  nanobind::object value;
  bool is_given = false;
};
TakenLeaf take_leaf(graph::StateTree& given, const graph::Path& path,
                    const nanobind::object& collection,
                    const std::function<bool(nanobind::handle value)>& fits);

// The value for the leaf `current` of a module from what was given at its path. Where it is a
// pytree it gets the structure that it has in the module. ValueError with the path for variables
// that are given below a leaf that is one value, or in several collections.
nanobind::object choose_value(const graph::Path& path, nanobind::handle current,
                              const graph::StateTree& given);

}  // namespace nnx_wrappers::bridge
