#include <algorithm>
#include <string>
#include <vector>

#include "bridge/conflicts.h"
#include "bridge/to_linen_state.h"
#include "bridge/to_nnx_state.h"
#include "bridge/unknown_paths.h"
#include "bridge/variable_layout.h"
#include "flax/array.h"
#include "flax/facade.h"
#include "flax/linen.h"
#include "flax/node.h"
#include "flax/qwix.h"
#include "flax/variable.h"
#include "graph/load.h"
#include "graph/path.h"
#include "graph/state_tree.h"
#include "graph/walk.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

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

// The collection whose value a leaf of the module takes: its own type's where the
// caller gave it, else the only one there is.
nb::object pick_collection(const graph::Path& path, const nb::object& own,
                           const std::vector<nb::object>& candidates) {
  if (candidates.size() == 1) return candidates.front();
  for (const nb::object& name : candidates) {
    if (own.is_valid() && own.equal(name)) return name;
  }
  raise_value_error({std::string(kApply) + ", " + graph::to_string(path),
                     "this path in one collection", "it in " + collection_list(candidates),
                     "Pass only the collection that the module uses."});
}

nb::object leaf_of(const graph::StateTree& given, nb::handle collection) {
  for (const graph::StateLeaf& leaf : given.leaves()) {
    if (leaf.collection.equal(collection)) return unboxed(leaf.value);
  }
  return {};
}

nb::dict unboxed_tree(nb::dict tree) {
  for (auto& [key, value] : py::dict_items(tree)) {
    tree[key] = PyDict_CheckExact(value.ptr()) != 0
                    ? nb::object(unboxed_tree(nb::borrow<nb::dict>(value)))
                    : unboxed(value);
  }
  return tree;
}

// What was given as a value of the same structure as `like`, or an invalid object. Formats that
// know no tuples hold lists, or dicts with the texts of indices or with the names of fields.
nb::object as_value_like(nb::handle like, const nb::object& given) {
  const flax::Facade& f = flax::facade();
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

nb::object choose_value(const graph::Path& path, nb::handle current,
                        const graph::StateTree& given) {
  nb::object own;
  if (flax::is_variable(current)) own = flax::collection_of(flax::variable_type(current));
  const nb::object collection = pick_collection(path, own, given.collections());
  nb::object leaf = leaf_of(given, collection);
  if (leaf.is_valid() && flax::is_array(leaf)) return leaf;
  const nb::object now =
      flax::is_variable(current) ? flax::stored_value(current) : nb::borrow(current);
  if (leaf.is_valid()) {
    const nb::object same = as_value_like(now, leaf);
    return same.is_valid() ? same : leaf;
  }
  // No leaf here but leaves below: right only where the value is a mapping or a sequence itself.
  nb::dict tree = unboxed_tree(given.to_dict(collection));
  const nb::object same = as_value_like(now, tree);
  if (same.is_valid()) return same;
  if (!py::is_mapping(now)) {
    raise_value_error(
        {std::string(kApply) + ", " + py::utf8(collection) + "/" + graph::to_string(path),
         "one value, since the module has " + py::describe(current) + " there",
         "variables below it", "Rename them, or remove them from the variables."});
  }
  return py::is_instance(now, flax::facade().frozen_dict) ? flax::facade().frozen_dict(tree)
                                                          : nb::object(tree);
}

// The state of ToNNX modules: their variables are attributes that the constructor
// could not make, so they are no known paths of the fresh module.
class ToNNXState {
 public:
  explicit ToNNXState(nb::handle root) {
    graph::WalkEvents events;
    events.on_node = [&](const graph::Path& path, nb::handle node, flax::NodeKind) {
      if (is_to_nnx(node)) wrappers_.push_back({path, nb::borrow(node), nb::dict()});
      return true;
    };
    graph::walk(root, events);
  }

  // Takes a leaf if its path leads into a ToNNX. Returns false otherwise.
  bool take(const graph::StateTree::Found& found) {
    for (Wrapper& wrapper : wrappers_) {
      if (!begins_with(found.path, wrapper.path)) continue;
      graph::Path inside(found.path.begin() + static_cast<long>(wrapper.path.size()),
                         found.path.end());
      for (const graph::StateLeaf& leaf : found.tree->leaves()) {
        graph::Path full{leaf.collection};
        full.insert(full.end(), inside.begin(), inside.end());
        graph::insert_nested(wrapper.variables, full, leaf.value);
      }
      return true;
    }
    return false;
  }

  void set() const {
    for (const Wrapper& wrapper : wrappers_) {
      if (nb::len(wrapper.variables) == 0) continue;
      set_variables(wrapper.object, wrapper.variables,
                    std::string(kApply) + ", " + graph::to_string(wrapper.path));
    }
  }

 private:
  struct Wrapper {
    graph::Path path;
    nb::object object;
    nb::dict variables;
  };

  static bool begins_with(const graph::Path& path, const graph::Path& prefix) {
    if (path.size() <= prefix.size()) return false;
    for (size_t i = 0; i < prefix.size(); ++i) {
      if (!path[i].equal(prefix[i])) return false;
    }
    return true;
  }

  std::vector<Wrapper> wrappers_;
};

// What Qwix keeps of operations, in the wrapper's own scope, while it intercepts.
bool is_statistic(const graph::StateTree& tree) {
  return std::ranges::all_of(tree.leaves(), [](const graph::StateLeaf& leaf) {
    return leaf.collection.equal(nb::str("quant_stats"));
  });
}

}  // namespace

graph::StateTree given_variables(nb::handle variables) {
  graph::StateTree tree;
  for (const auto& [collection, below] : py::mapping_items(flax::unfreeze(variables))) {
    tree.add_collection(collection, below);
  }
  refuse_conflicts(tree, kApply);
  const graph::Path both = tree.first_number_beside_its_text();
  if (!both.empty()) {
    const std::string key = py::utf8(both.back());
    raise_value_error({std::string(kApply) + ", " + graph::to_string(both),
                       "either the number " + key + " or the text '" + key + "'", "both",
                       "Keep those that hold the values to use."});
  }
  return tree;
}

TakenLeaf take_leaf(graph::StateTree& given, const graph::Path& path, const nb::object& collection,
                    const std::function<bool(nb::handle)>& fits) {
  graph::StateTree* at = &given;
  for (const nb::object& key : path) {
    at = at->child_of_module(key);
    if (at == nullptr) return {};
  }
  if (at->has_children()) return {{}, true};
  if (at->leaves().empty()) return {};
  const nb::object leaf = leaf_of(*at, pick_collection(path, collection, at->collections()));
  if (!fits(leaf)) return {{}, true};
  at->mark_used();
  return {leaf, true};
}

void warn_missing_parameters(const std::vector<graph::Path>& paths) {
  if (paths.empty()) return;
  const std::string text = std::string(kApply) +
                           ": the variables lack parameters of the module, which get initial "
                           "values:" +
                           graph::to_lines(paths) +
                           "\nPass the whole collection 'params', as init returns it.";
  flax::facade().warn(text, nb::arg("stacklevel") = 2);
}

std::vector<graph::Path> missing_parameters(nb::handle nnx_module, graph::StateTree& given) {
  std::vector<graph::Path> missing;
  graph::WalkEvents events;
  events.on_leaf = [&](const graph::Path& path, nb::handle leaf, flax::NodeKind kind) {
    if (kind != flax::NodeKind::kVariable) return;
    const nb::object collection = flax::collection_of(flax::variable_type(leaf));
    if (!collection.is_valid() || !collection.equal(py::names().params)) return;
    graph::StateTree* at = &given;
    for (size_t i = 0; at != nullptr && i < path.size(); ++i) at = at->child_of_module(path[i]);
    if (at == nullptr || (at->leaves().empty() && !at->has_children())) missing.push_back(path);
  };
  graph::walk(nnx_module, events);
  return missing;
}

void refuse_texts_for_numbers(const graph::StateTree& given) {
  if (!given.has_texts_for_numbers()) return;
  raise_value_error({kApply, "numbers as keys of lists, where collections may change",
                     "their texts, such as '0' for 0",
                     "Restore the variables with a target, such as what init returns."});
}

void load_variables(nb::handle self, nb::handle nnx_module, graph::StateTree& tree) {
  if (tree.unused().empty()) return;
  graph::load(nnx_module, tree,
              [](const graph::Path& path, nb::handle current, flax::NodeKind,
                 const graph::StateTree& given) { return choose_value(path, current, given); });
  const auto unused = tree.unused();
  if (unused.empty()) return;
  ToNNXState wrappers(nnx_module);
  const bool has_statistics = flax::qwix_interceptors().is_valid();
  UnknownPaths unknown(nnx_module);
  for (const auto& found : unused) {
    if (wrappers.take(found) || flax::has_submodule(self, found.path.front())) continue;
    if (has_statistics && is_statistic(*found.tree)) continue;
    unknown.add(found.path,
                [&](nb::handle current) { return choose_value(found.path, current, *found.tree); });
  }
  wrappers.set();
  unknown.build();
}

}  // namespace nnx_wrappers::bridge
