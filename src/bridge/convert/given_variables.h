// The variables that a caller gives for an NNX module, as a tree, and the value for each leaf.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

#include "graph/path.h"
#include "graph/state_tree.h"

namespace nnx_wrappers::bridge {

inline constexpr const char* kApply = "ToLinen.apply";  // for error messages

// The variables of a scope as a tree. Throws ValueError if a path is a prefix of another, or if a
// level has both a number and its text.
graph::StateTree given_variables(nanobind::handle variables);

// Takes the value that was given for one leaf of a module out of its box, and marks it as used.
// `collection` is that of the leaf's type, or invalid. If variables are given below the path, or
// `fits` returns false, the value is not taken.
struct TakenLeaf {
  nanobind::object value;  // invalid if it was not taken
  bool is_given = false;   // true also if it was not taken
};
TakenLeaf take_leaf(graph::StateTree& given, const graph::Path& path,
                    const nanobind::object& collection,
                    const std::function<bool(nanobind::handle value)>& fits);

// The value for the leaf `current` of a module, from `given`, which is what was given at its path.
// A pytree gets the structure that it has in the module. Throws ValueError if several collections
// have the path, or if variables are given below a leaf that is no mapping.
nanobind::object choose_value(const graph::Path& path, nanobind::handle current,
                              const graph::StateTree& given);

}  // namespace nnx_wrappers::bridge
