#include "upstream/dialect/older_variable.h"

#include <string>

#include "py/containers.h"
#include "py/object.h"
#include "upstream/dialect/dialect.h"
#include "upstream/facade.h"
#include "upstream/look_up.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream::older {

namespace {

// Flax 0.10.2 keeps the metadata among the attributes of a Variable.
bool keeps_metadata_apart(nb::handle variable) {
  return py::class_attribute(variable.type(), private_names().var_metadata).is_valid();
}

// True if there is a hook of this kind, such as "get_value": Flax 0.10.2 has tuples of them.
bool has_hook(const nb::dict& metadata, const std::string& kind) {
  const nb::object hooks = py::dict_get(metadata, nb::str((kind + "_hooks").c_str()));
  return (hooks.is_valid() && py::truthy(hooks)) || metadata.contains(("on_" + kind).c_str());
}

}  // namespace

bool is_variable_state(nb::handle object) {
  return dialect().has_older_variables && py::is_subtype(object.type(), dialect().variable_state);
}

nb::object raw_value(nb::handle variable) {
  const PrivateNames& n = private_names();
  nb::object value = py::get_optional(variable, n.raw_value);
  return value.is_valid() ? value : py::get(variable, n.value);
}

void set_raw_value(nb::handle variable, nb::handle value) {
  py::set_generic(variable, private_names().raw_value, value);
}

bool has_get_hook(const nb::dict& metadata) { return has_hook(metadata, "get_value"); }

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
  if (has_hook(older::metadata(variable), "create_value")) set_raw_value(variable, value);
  return variable;
}

nb::object make_type(nb::handle collection) {
  const nb::object by_name = nb::borrow(facade().variable_type_from_name);
  return takes_argument(by_name, "allow_register")  // without it, Flax 0.10.2 registers always
             ? by_name(collection, nb::arg("allow_register") = true)
             : by_name(collection);
}

}  // namespace nnx_wrappers::upstream::older
