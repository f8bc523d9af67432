#include "upstream/dialect/older_variable.h"

#include "py/containers.h"
#include "py/object.h"
#include "upstream/dialect/dialect.h"
#include "upstream/facade.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream::older {

namespace {

// Flax 0.10.2 keeps the metadata among the attributes of a Variable.
bool keeps_metadata_apart(nb::handle variable) {
  return py::class_attribute(variable.type(), private_names().var_metadata).is_valid();
}

}  // namespace

bool is_variable_state(nb::handle object) {
  return py::is_subtype(object.type(), dialect().variable_state);
}

nb::object raw_value(nb::handle variable) {
  const PrivateNames& n = private_names();
  nb::object value = py::get_optional(variable, n.raw_value);
  return value.is_valid() ? value : py::get(variable, n.value);
}

void set_raw_value(nb::handle variable, nb::handle value) {
  py::set_generic(variable, private_names().raw_value, value);
}

bool has_get_hook(nb::handle variable) {
  const nb::dict all = metadata(variable);
  const nb::object hooks = py::dict_get(all, nb::str("get_value_hooks"));
  return (hooks.is_valid() && py::truthy(hooks)) || all.contains(names().on_get_value);
}

nb::dict metadata(nb::handle variable) {
  return py::copy_dict(py::get(variable, names().get_metadata)());
}

void restore(nb::handle variable, nb::handle raw_value, nb::handle metadata,
             std::vector<nb::object>& dying) {
  const PrivateNames& n = private_names();
  dying.push_back(older::raw_value(variable));
  set_raw_value(variable, raw_value);
  if (keeps_metadata_apart(variable)) {
    dying.push_back(py::get(variable, n.var_metadata));
    py::set_generic(variable, n.var_metadata, py::copy_dict(metadata));
    return;
  }
  const nb::dict attributes = py::instance_dict(variable);
  nb::dict before = py::copy_dict(metadata);
  for (nb::handle name : {n.raw_value, n.trace_state}) before[name] = attributes[name];
  dying.push_back(py::copy_dict(attributes));
  py::restore_dict(attributes, before);
}

nb::object make(nb::handle type, nb::handle value, const nb::dict& metadata) {
  nb::object variable = py::call(type, nb::make_tuple(value), metadata);
  const nb::dict made = older::metadata(variable);
  const nb::object hooks = py::dict_get(made, nb::str("create_value_hooks"));
  const bool has_create_hook =
      (hooks.is_valid() && py::truthy(hooks)) || made.contains("on_create_value");
  if (has_create_hook) set_raw_value(variable, value);
  return variable;
}

nb::object make_type(nb::handle collection) {
  const nb::object by_name = nb::borrow(facade().variable_type_from_name);
  const nb::object parameters =
      nb::module_::import_("inspect").attr("signature")(by_name).attr("parameters");
  const nb::str registers("allow_register");  // without it, Flax 0.10.2 registers always
  return py::contains(parameters, registers) ? by_name(collection, nb::arg("allow_register") = true)
                                             : by_name(collection);
}

}  // namespace nnx_wrappers::upstream::older
