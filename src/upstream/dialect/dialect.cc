#include "upstream/dialect/dialect.h"

#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/look_up.h"

namespace nnx_wrappers::upstream {

namespace {

// The attributes of a ToNNX of Flax that wraps an empty Linen module.
nb::dict attributes_of_flax_wrapper() {
  const nb::object wrapper = nb::borrow(look_up("flax.nnx.bridge:ToNNX"));
  const nb::object linen_module = nb::borrow(look_up("flax.linen:Module"));
  return py::instance_dict(wrapper(linen_module()));
}

// True if a Variable stores its value under a public name.
bool has_open_value() {
  const nb::object variable = nb::borrow(look_up("flax.nnx:Variable"));
  const nb::str name("raw_value");
  const nb::object slot = py::class_attribute(variable, name);
  if (slot.is_valid())
    return slot.type().is(nb::handle(reinterpret_cast<PyObject*>(&PyMemberDescr_Type)));
  return py::dict_get(py::instance_dict(variable(0)), name).is_valid();
}

Dialect load_dialect() {
  require_flax();  // no answer is remembered without it
  Dialect result;
  if (!has_open_value()) return result;
  result.has_older_variables = true;
  result.variable_state = look_for_class({"flax.nnx.variablelib:VariableState"});
  result.raw_value = "raw_value";
  const nb::dict attributes = attributes_of_flax_wrapper();
  for (const auto& item : py::dict_items(attributes)) {
    const std::string name = py::utf8(item.first);
    if (name.ends_with("__state")) result.pytree_state = name;
  }
  result.has_older_bridge = !attributes.contains(result.to_nnx_module.c_str());
  if (!result.has_older_bridge) return result;
  result.initializes_by_stream_keys = attributes.contains("linen_attributes");
  result.to_nnx_module = "module";
  result.to_nnx_rngs = "rngs";
  result.graph_def = look_for_class({"flax.nnx:GraphDef"});
  return result;
}

}  // namespace

const Dialect& dialect() {
  static constinit py::Once<const Dialect> dialect;
  return dialect.get(load_dialect);
}

}  // namespace nnx_wrappers::upstream
