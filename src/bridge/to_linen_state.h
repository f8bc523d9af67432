// Moving variables between a Linen scope and the NNX module that ToLinen made.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <vector>

#include "graph/path.h"
#include "graph/state_tree.h"

namespace nnx_wrappers::bridge {

// Loads the variables that nobody has taken yet into the module in place: Variables by
// path, the state of ToNNX modules as new attributes. Variables of Linen modules
// that the constructor made, and Linen adopted, are theirs. Warns about paths that
// the module does not have and builds the modules that are missing on the way there.
void load_variables(nanobind::handle self, nanobind::handle nnx_module, graph::StateTree& given);

// Warns once that these parameters of the module (paths without their collection) were
// not given and have initial values.
void warn_missing_parameters(const std::vector<graph::Path>& paths);

// The parameters of the module that `given` does not have.
std::vector<graph::Path> missing_parameters(nanobind::handle nnx_module, graph::StateTree& given);

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

// Collects the state of the module by collection, for collections that are mutable
// in the scope of `self` only, converts it by the metadata_fn of `self`, and puts it
// into the scope: all of it or, if a conversion fails, nothing. `wanted` may leave
// paths out.
void store_variables(nanobind::handle self, nanobind::handle nnx_module,
                     const std::function<bool(const graph::Path&)>& wanted);

// Refuses variables that were found by texts for numbers, for a call in which collections may
// change: what changes would stand beside them.
void refuse_texts_for_numbers(const graph::StateTree& given);

}  // namespace nnx_wrappers::bridge
