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
  dicts_.push_back({nb::borrow(pytree), std::move(attributes), std::move(saved)});
}

void Snapshot::add_graph(nb::handle root) {
  WalkEvents events;
  events.on_node = [&](const Path&, nb::handle node, flax::NodeKind kind) {
    if (kind == flax::NodeKind::kDict) {
      dicts_.push_back({{}, nb::borrow<nb::dict>(node), py::copy_dict(node)});
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

namespace {

template <typename Step>
void attempt(Step&& step) {
  try {
    step();
  } catch (nb::python_error& error) {
    error.discard_as_unraisable("nnx_wrappers: restoring a module after a failed call");
  }
}

// An attribute as it is stored, or an invalid object: no code of the class runs.
nb::object stored_attribute(nb::handle object, nb::handle name) {
  PyObject* value = PyObject_GenericGetAttr(object.ptr(), name.ptr());
  if (value == nullptr) PyErr_Clear();
  return nb::steal(value);
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
  const py::Names& n = py::names();
  if (entry.contents.is_valid()) entry.value[nb::ellipsis()] = entry.contents;
  if (!flax::is_plain_variable(entry.variable)) {
    py::get(entry.variable, n.set_raw_value)(entry.value, nb::arg("_unsafe_bypass_check") = true);
    return;
  }
  dying.push_back(stored_attribute(entry.variable, n.raw_value));
  py::set_generic(entry.variable, n.raw_value, entry.value);
  const nb::object metadata = stored_attribute(entry.variable, n.var_metadata);
  if (!metadata.is_valid() || PyDict_CheckExact(metadata.ptr()) == 0) {
    dying.push_back(metadata);
    py::set_generic(entry.variable, n.var_metadata, entry.metadata);
    return;
  }
  dying.push_back(py::copy_dict(metadata));
  py::restore_dict(metadata, entry.metadata);
}

void Snapshot::restore() const {
  std::vector<nb::object> dying;
  for (const SavedDict& entry : dicts_) attempt([&] { restore(entry, dying); });
  for (const SavedList& entry : lists_) attempt([&] { restore(entry, dying); });
  for (const SavedVariable& entry : variables_) attempt([&] { restore(entry, dying); });
  for (const SavedFlag& entry : flags_) {
    attempt([&] { py::set(entry.state, py::names().initializing, entry.initializing); });
  }
}

}  // namespace nnx_wrappers::graph
