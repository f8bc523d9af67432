#include "graph/snapshot.h"

#include "flax/array.h"
#include "flax/facade.h"
#include "flax/variable.h"
#include "graph/walk.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::graph {

void Snapshot::add_attributes(nb::handle pytree) {
  const py::Names& n = py::names();
  nb::dict attributes = py::instance_dict(pytree);
  nb::dict saved = py::copy_dict(attributes);
  const nb::object state = py::dict_get(attributes, n.pytree_state);
  if (state.is_valid()) flags_.push_back({state, py::get(state, n.initializing)});
  dicts_.push_back({std::move(attributes), std::move(saved)});
}

void Snapshot::add_graph(nb::handle root) {
  WalkEvents events;
  events.on_node = [&](const Path&, nb::handle node, flax::NodeKind kind) {
    if (kind == flax::NodeKind::kDict) {
      dicts_.push_back({nb::borrow<nb::dict>(node), py::copy_dict(node)});
    } else if (kind == flax::NodeKind::kList) {
      lists_.push_back({nb::borrow(node), nb::list(node)});
    } else if (flax::is_pytree(node)) {
      add_attributes(node);
    }
    return true;
  };
  events.on_leaf = [&](const Path&, nb::handle leaf, flax::NodeKind kind) {
    if (kind != flax::NodeKind::kVariable) return;
    nb::object value = flax::raw_value(leaf);
    nb::object contents;
    if (flax::is_array_ref(value)) contents = value[nb::ellipsis()];
    variables_.push_back(
        {nb::borrow(leaf), std::move(value), std::move(contents), flax::metadata(leaf)});
  };
  walk(root, events);
}

void Snapshot::restore() const {
  const py::Names& n = py::names();
  for (const SavedDict& entry : dicts_) py::restore_dict(entry.dict, entry.saved);
  for (const SavedList& entry : lists_) {
    entry.list.attr("clear")();
    entry.list.attr("extend")(entry.saved);
  }
  for (const SavedVariable& entry : variables_) {
    if (entry.contents.is_valid()) {
      entry.value[nb::ellipsis()] = entry.contents;
      continue;
    }
    py::get(entry.variable, n.set_raw_value)(entry.value, nb::arg("_unsafe_bypass_check") = true);
    if (py::is_subtype(entry.variable.type(), flax::facade().variable)) {
      py::restore_dict(py::get(entry.variable, n.var_metadata), entry.metadata);
    }
  }
  for (const SavedFlag& entry : flags_) py::set(entry.state, n.initializing, entry.initializing);
}

}  // namespace nnx_wrappers::graph
