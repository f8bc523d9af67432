#include "bridge/to_linen/load_variables.h"

#include <algorithm>
#include <string>
#include <vector>

#include "bridge/convert/given_variables.h"
#include "bridge/to_linen/unknown_paths.h"
#include "bridge/to_nnx/attributes.h"
#include "graph/load.h"
#include "graph/path.h"
#include "graph/state_tree.h"
#include "graph/walk.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/node.h"
#include "upstream/qwix.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The ToNNX modules in the module, which have no variables yet: these are attributes that only a
// call makes, so the module does not have their paths.
class ToNNXState {
 public:
  explicit ToNNXState(nb::handle root) {
    graph::WalkEvents events;
    events.on_node = [&](const graph::Path& path, nb::handle node, upstream::NodeKind) {
      if (is_to_nnx(node)) wrappers_.push_back({path, nb::borrow(node), nb::dict()});
      return true;
    };
    graph::walk(root, events);
  }

  // Takes the leaves at a path that leads into a ToNNX. Returns false for every other path.
  bool take(const graph::StateTree::Found& found) {
    for (Wrapper& wrapper : wrappers_) {
      const bool is_inside =
          found.path.size() > wrapper.path.size() && graph::begins_with(found.path, wrapper.path);
      if (!is_inside) continue;
      graph::Path inside(found.path.begin() + static_cast<long>(wrapper.path.size()),
                         found.path.end());
      for (const graph::StateLeaf& leaf : found.tree->leaves()) {
        graph::insert_nested(wrapper.variables, graph::with_collection(leaf.collection, inside),
                             leaf.value);
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

  std::vector<Wrapper> wrappers_;
};

// True for the statistics that Qwix stores in the scope of the ToLinen while it intercepts.
bool is_quantization_statistic(const graph::StateTree& tree) {
  return std::ranges::all_of(tree.leaves(), [](const graph::StateLeaf& leaf) {
    return leaf.collection.equal(nb::str("quant_stats"));
  });
}

void refuse_numeric_text_keys(const graph::StateTree& given) {
  if (!given.has_numeric_text_keys()) return;
  raise_value_error({kApply, "integers as keys of lists, since collections may change",
                     "the texts of integers, such as '0' for 0",
                     "Restore the checkpoint with a target: the variables that init returns."});
}

void load_unused(nb::handle self, nb::handle nnx_module, graph::StateTree& tree) {
  if (tree.unused().empty()) return;
  graph::load(nnx_module, tree,
              [](const graph::Path& path, nb::handle current, upstream::NodeKind,
                 const graph::StateTree& given) { return choose_value(path, current, given); });
  const auto unused = tree.unused();
  if (unused.empty()) return;
  ToNNXState wrappers(nnx_module);
  const bool has_statistics = upstream::qwix_interceptors().is_valid();
  UnknownPaths unknown(nnx_module);
  for (const auto& found : unused) {
    if (wrappers.take(found) || upstream::has_submodule(self, found.path.front())) continue;
    if (has_statistics && is_quantization_statistic(*found.tree)) continue;
    unknown.add(found.path,
                [&](nb::handle current) { return choose_value(found.path, current, *found.tree); });
  }
  wrappers.set();
  unknown.build();
}

}  // namespace

void warn_missing_parameters(const std::vector<graph::Path>& paths) {
  if (paths.empty()) return;
  const std::string text = std::string(kApply) +
                           ": the variables lack parameters of the module, which get initial "
                           "values:" +
                           graph::to_lines(paths) +
                           "\nPass the whole collection 'params', as init returns it.";
  upstream::facade().warn(text, nb::arg("stacklevel") = 2);
}

std::vector<graph::Path> missing_parameters(nb::handle nnx_module, graph::StateTree& given) {
  std::vector<graph::Path> missing;
  graph::WalkEvents events;
  events.on_leaf = [&](const graph::Path& path, nb::handle leaf, upstream::NodeKind kind) {
    if (kind != upstream::NodeKind::kVariable) return;
    const nb::object collection = upstream::collection_of(upstream::variable_type(leaf));
    if (!collection.is_valid() || !collection.equal(upstream::names().params)) return;
    graph::StateTree* at = &given;
    for (size_t i = 0; at != nullptr && i < path.size(); ++i)
      at = at->child_for_module_key(path[i]);
    if (at == nullptr || (at->leaves().empty() && !at->has_children())) missing.push_back(path);
  };
  graph::walk(nnx_module, events);
  return missing;
}

void load_variables(nb::handle self, nb::handle nnx_module, graph::StateTree& given) {
  load_unused(self, nnx_module, given);
  const upstream::Names& n = upstream::names();
  const bool may_change = py::get(py::get(self, n.scope), n.mutable_).ptr() != Py_False;
  if (may_change) refuse_numeric_text_keys(given);
}

}  // namespace nnx_wrappers::bridge
