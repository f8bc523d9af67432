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

bool is_linen_module(nb::handle object) { return py::is_instance(object, facade().linen_module); }

bool is_axis_metadata(nb::handle object) { return py::is_instance(object, facade().axis_metadata); }

nb::object unfreeze(nb::handle tree) { return facade().unfreeze(tree); }

}  // namespace nnx_wrappers::flax
