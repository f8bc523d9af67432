#include "bridge/to_linen/store_variables.h"

#include <string>
#include <unordered_map>

#include "graph/walk.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The type of a leaf, by which its collection is found.
nb::object type_of_leaf(nb::handle leaf, upstream::NodeKind kind) {
  if (kind == upstream::NodeKind::kVariable) return upstream::variable_type(leaf);
  return nb::borrow(leaf.type());
}

nb::object collection_for(nb::handle leaf, upstream::NodeKind kind, const graph::Path& path) {
  if (kind == upstream::NodeKind::kVariable) {
    return upstream::collection_of_or_register(upstream::variable_type(leaf),
                                               "ToLinen, " + graph::to_string(path));
  }
  // The collection of a value that is no Variable has the name of its type, as in Flax. But here
  // tracers have that of arrays, and the name is not registered for a Variable type.
  if (upstream::is_jax_array(leaf)) return nb::str("ArrayImpl");
  if (kind == upstream::NodeKind::kArrayRef) return nb::str("Ref");
  return py::get(leaf.type(), nb::str("__name__"));
}

class Collector {
 public:
  explicit Collector(nb::handle self)
      : is_mutable_(py::get(self, upstream::names().is_mutable_collection)),
        metadata_fn_(py::get(self, upstream::names().metadata_fn)) {}

  void add(const graph::Path& path, nb::handle leaf, upstream::NodeKind kind) {
    const nb::object type = type_of_leaf(leaf, kind);
    if (kind == upstream::NodeKind::kVariable && py::is_subtype(type, upstream::facade().rng_state))
      return;
    Target& target = target_of(type, leaf, kind, path);
    if (!target.is_mutable) return;
    if (path.empty()) {
      raise_value_error({"ToLinen", "an NNX module", py::describe(leaf),
                         "Wrap the value in a module as an attribute."});
    }
    const graph::Path full = graph::with_collection(target.collection, path);
    if (!graph::insert_nested(collections_, full, converted(leaf, kind))) {
      raise_value_error({"ToLinen, " + graph::to_string(full), "one value for each path",
                         "a second one", "Give each attribute a name of its own."});
    }
  }

  const nb::dict& collections() const { return collections_; }

 private:
  struct Target {
    nb::object type;  // owned, so that no other type gets its address, which is the key
    nb::object collection;
    bool is_mutable;
  };

  Target& target_of(const nb::object& type, nb::handle leaf, upstream::NodeKind kind,
                    const graph::Path& path) {
    const auto found = targets_.find(type.ptr());
    if (found != targets_.end()) return found->second;
    nb::object collection = collection_for(leaf, kind, path);
    const bool is_mutable = py::truthy(is_mutable_(collection));
    return targets_.emplace(type.ptr(), Target{type, std::move(collection), is_mutable})
        .first->second;
  }

  nb::object converted(nb::handle leaf, upstream::NodeKind kind) const {
    if (kind == upstream::NodeKind::kArrayRef) return leaf[nb::ellipsis()];
    if (kind != upstream::NodeKind::kVariable) return nb::borrow(leaf);
    return metadata_fn_.is_none() ? upstream::stored_value(leaf) : metadata_fn_(leaf);
  }

  nb::object is_mutable_;
  nb::object metadata_fn_;
  std::unordered_map<PyObject*, Target> targets_;
  nb::dict collections_;
};

}  // namespace

void store_variables(nb::handle self, nb::handle nnx_module,
                     const std::function<bool(const graph::Path&)>& wanted) {
  Collector collector(self);
  graph::WalkEvents events;
  events.on_leaf = [&](const graph::Path& path, nb::handle leaf, upstream::NodeKind kind) {
    if (wanted(path)) collector.add(path, leaf, kind);
  };
  graph::walk(nnx_module, events);
  const nb::object put = py::get(self, upstream::names().put_variable);
  for (const auto& [collection, variables] : py::dict_items(collector.collections())) {
    for (const auto& [name, value] : py::dict_items(variables)) put(collection, name, value);
  }
}

}  // namespace nnx_wrappers::bridge
