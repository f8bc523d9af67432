#include "bridge/convert/given_variables.h"

#include <string>
#include <vector>

#include "bridge/convert/path_conflicts.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

std::string collection_list(const std::vector<nb::object>& names) {
  std::string text;
  for (const nb::object& name : names) {
    if (!text.empty()) text += ", ";
    text += "'" + py::utf8(name) + "'";
  }
  return text;
}

// The collection from which a leaf of the module takes its value: the only one that has the path,
// or else that of the leaf's type, `own`.
nb::object pick_collection(const graph::Path& path, const nb::object& own,
                           const std::vector<nb::object>& candidates) {
  if (candidates.size() == 1) return candidates.front();
  for (const nb::object& name : candidates) {
    if (own.is_valid() && own.equal(name)) return name;
  }
  raise_value_error({std::string(kApply) + ", " + graph::to_string(path),
                     "one collection with this path", collection_list(candidates),
                     "Pass only the collection that the module uses."});
}

nb::object leaf_in_collection(const graph::StateTree& given, nb::handle collection) {
  for (const graph::StateLeaf& leaf : given.leaves()) {
    if (leaf.collection.equal(collection)) return upstream::unboxed(leaf.value);
  }
  return {};
}

nb::dict unboxed_tree(nb::dict tree) {
  for (auto& [key, value] : py::dict_items(tree)) {
    tree[key] = PyDict_CheckExact(value.ptr()) != 0
                    ? nb::object(unboxed_tree(nb::borrow<nb::dict>(value)))
                    : upstream::unboxed(value);
  }
  return tree;
}

// The given value with the structure of `like`, or an invalid object if it does not fit. Checkpoint
// formats without tuples have lists, or dicts by the texts of indices or the names of fields.
nb::object restructured_like(nb::handle like, const nb::object& given) {
  const upstream::Facade& f = upstream::facade();
  const nb::object expected = f.tree_flatten(like)[1];
  const nb::object before = f.tree_flatten(given);
  if (nb::object(before[1]).equal(expected)) return given;
  nb::object value;
  try {
    value = f.from_state_dict(like, f.to_state_dict(given));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    return {};
  }
  const nb::object after = f.tree_flatten(value);
  const bool is_all = nb::len(nb::object(after[0])) == nb::len(nb::object(before[0]));
  return is_all && nb::object(after[1]).equal(expected) ? value : nb::object();
}

}  // namespace

nb::object choose_value(const graph::Path& path, nb::handle current,
                        const graph::StateTree& given) {
  nb::object own;
  if (upstream::is_variable(current))
    own = upstream::collection_of(upstream::variable_type(current));
  const nb::object collection = pick_collection(path, own, given.collections());
  nb::object leaf = leaf_in_collection(given, collection);
  if (leaf.is_valid() && upstream::is_array(leaf)) return leaf;
  const nb::object now =
      upstream::is_variable(current) ? upstream::stored_value(current) : nb::borrow(current);
  if (leaf.is_valid()) {
    const nb::object same = restructured_like(now, leaf);
    return same.is_valid() ? same : leaf;
  }
  // Leaves are given below the path. That is right only if the value is a mapping or a sequence.
  nb::dict tree = unboxed_tree(given.to_dict(collection));
  nb::object same = restructured_like(now, tree);
  if (same.is_valid()) return same;
  if (!py::is_mapping(now)) {
    raise_value_error(
        {std::string(kApply) + ", " + py::utf8(collection) + "/" + graph::to_string(path),
         "one value, since the module has " + py::describe(current) + " there",
         "variables below it", "Rename them, or remove them from the variables."});
  }
  return py::is_instance(now, upstream::facade().frozen_dict) ? upstream::facade().frozen_dict(tree)
                                                              : nb::object(tree);
}

graph::StateTree given_variables(nb::handle variables) {
  graph::StateTree tree;
  for (const auto& [collection, below] : py::mapping_items(upstream::unfreeze(variables))) {
    tree.add_collection(collection, below);
  }
  refuse_prefix_paths(tree, kApply);
  const graph::Path both = tree.first_ambiguous_number();
  if (!both.empty()) {
    const std::string key = py::utf8(both.back());
    raise_value_error({std::string(kApply) + ", " + graph::to_string(both),
                       "either the number " + key + " or the text '" + key + "'", "both",
                       "Keep only the key that has the values to use."});
  }
  return tree;
}

TakenLeaf take_leaf(graph::StateTree& given, const graph::Path& path, const nb::object& collection,
                    const std::function<bool(nb::handle)>& fits) {
  graph::StateTree* at = &given;
  for (const nb::object& key : path) {
    at = at->child_for_module_key(key);
    if (at == nullptr) return {};
  }
  if (at->has_children()) return {{}, true};
  if (at->leaves().empty()) return {};
  const nb::object leaf =
      leaf_in_collection(*at, pick_collection(path, collection, at->collections()));
  if (!fits(leaf)) return {{}, true};
  at->mark_used();
  return {leaf, true};
}

}  // namespace nnx_wrappers::bridge
