#include "graph/snapshot.h"

#include "graph/walk.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/pytree_state.h"
#include "upstream/variable.h"

namespace nnx_wrappers::graph {

void Snapshot::add_attributes(nb::handle pytree) {
  nb::dict attributes = py::instance_dict(pytree);
  nb::dict saved = py::copy_dict(attributes);
  const nb::object state = upstream::pytree_state(pytree);
  if (state.is_valid()) flags_.push_back({state, upstream::initializing_flag(state)});
  dicts_.push_back({nb::borrow(pytree), std::move(attributes), std::move(saved)});
}

void Snapshot::add_graph(nb::handle root) {
  WalkEvents events;
  events.on_node = [&](const Path&, nb::handle node, upstream::NodeKind kind) {
    if (kind == upstream::NodeKind::kDict) {
      dicts_.push_back({{}, nb::borrow<nb::dict>(node), py::copy_dict(node)});
    } else if (kind == upstream::NodeKind::kList) {
      lists_.push_back({nb::borrow(node), nb::list(node)});
    } else if (upstream::is_pytree(node)) {
      add_attributes(node);
    }
    return true;
  };
  events.on_leaf = [&](const Path&, nb::handle leaf, upstream::NodeKind kind) {
    if (kind != upstream::NodeKind::kVariable) return;
    nb::object value = upstream::raw_value(leaf);
    nb::object contents;
    if (upstream::is_array_ref(value)) contents = value[nb::ellipsis()];
    variables_.push_back(
        {nb::borrow(leaf), std::move(value), std::move(contents), upstream::metadata(leaf)});
  };
  walk(root, events);
}

namespace {

// Runs one step of restoring, and reports its error to sys.unraisablehook.
template <typename Step>
void attempt(Step&& step) {
  try {
    step();
  } catch (nb::python_error& error) {
    error.discard_as_unraisable("nnx_wrappers: restoring a module after a failed call");
  }
}

}  // namespace

void Snapshot::restore(const SavedDict& entry, std::vector<nb::object>& dying) {
  dying.push_back(py::copy_dict(entry.dict));
  py::restore_dict(entry.dict, entry.saved);
  if (!entry.owner.is_valid()) return;
  nb::dict now = py::instance_dict(entry.owner);
  if (now.is(entry.dict)) return;
  py::set_generic(entry.owner, py::names().dict_dunder, entry.dict);
  dying.push_back(std::move(now));
}

void Snapshot::restore(const SavedList& entry, std::vector<nb::object>& dying) {
  dying.push_back(nb::list(entry.list));
  if (PyList_SetSlice(entry.list.ptr(), 0, PY_SSIZE_T_MAX, entry.saved.ptr()) != 0) {
    throw nb::python_error();
  }
}

void Snapshot::restore(const SavedVariable& entry, std::vector<nb::object>& dying) {
  if (entry.contents.is_valid()) entry.value[nb::ellipsis()] = entry.contents;
  upstream::restore_variable(entry.variable, entry.value, entry.metadata, dying);
}

void Snapshot::restore() const {
  std::vector<nb::object> dying;
  for (const SavedDict& entry : dicts_) attempt([&] { restore(entry, dying); });
  for (const SavedList& entry : lists_) attempt([&] { restore(entry, dying); });
  for (const SavedVariable& entry : variables_) attempt([&] { restore(entry, dying); });
  for (const SavedFlag& entry : flags_) {
    attempt([&] { upstream::set_initializing_flag(entry.state, entry.initializing); });
  }
}

}  // namespace nnx_wrappers::graph
