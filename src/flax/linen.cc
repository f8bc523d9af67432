#include "flax/linen.h"

#include "flax/facade.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::flax {

nb::object innermost_linen_module() {
  const nb::object stack = py::get(facade().linen_context, py::names().module_stack);
  return nb::len(stack) == 0 ? nb::none() : nb::object(stack[-1]);
}

nb::object innermost_bridge_module() {
  const nb::object stack = py::get(facade().bridge_context, py::names().module_stack);
  if (nb::len(stack) == 0) return nb::none();
  const nb::object entry = stack[-1];
  return entry.is_none() ? nb::none() : py::get(entry, nb::str("module"));
}

bool is_initializing(nb::handle linen_module) {
  const nb::object scope = py::get(linen_module, py::names().scope);
  return !scope.is_none() && nb::cast<bool>(py::get(linen_module, py::names().is_initializing)());
}

nb::object enclosing_mutable() {
  for (const nb::object& module : {innermost_bridge_module(), innermost_linen_module()}) {
    if (module.is_none()) continue;
    const nb::object scope = py::get(module, py::names().scope);
    if (!scope.is_none()) return py::get(scope, py::names().mutable_);
  }
  return {};
}

bool has_submodule(nb::handle linen_module, nb::handle name) {
  const py::Names& n = py::names();
  const nb::object children = py::get(py::get(linen_module, n.state), n.children);
  return nb::cast<bool>(children.attr("__contains__")(name));
}

nb::object abstract_key(nb::handle scope, nb::handle stream) {
  const nb::object lazy = py::get(scope, py::names().rngs)[stream];
  const nb::object key = py::get(lazy, nb::str("rng"));
  return facade().shape_dtype_struct(py::get(key, py::names().shape),
                                     py::get(key, nb::str("dtype")));
}

nb::object draw_key(nb::handle scope, nb::handle stream) {
  return py::get(scope, py::names().make_rng)(stream);
}

void skip_key(nb::handle scope, nb::handle stream) {
  scope.attr("_check_valid")();
  scope.attr("_validate_trace_level")();
  const nb::object counters = scope.attr("rng_counters");
  counters[stream] = counters[stream] + nb::int_(1);
}

NoLinenModule::NoLinenModule()
    : stack_(nb::cast<nb::list>(py::get(facade().linen_context, py::names().module_stack))) {
  stack_.append(nb::none());
}

NoLinenModule::~NoLinenModule() {
  const Py_ssize_t size = PyList_Size(stack_.ptr());
  if (PyList_SetSlice(stack_.ptr(), size - 1, size, nullptr) != 0) PyErr_Clear();
}

bool is_linen_module(nb::handle object) { return py::is_instance(object, facade().linen_module); }

bool is_axis_metadata(nb::handle object) { return py::is_instance(object, facade().axis_metadata); }

bool is_level(nb::handle object) {
  return PyDict_Check(object.ptr()) != 0 || py::is_subtype(object.type(), facade().frozen_dict);
}

nb::object unfreeze(nb::handle tree) { return facade().unfreeze(tree); }

}  // namespace nnx_wrappers::flax
