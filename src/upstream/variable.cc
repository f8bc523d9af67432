#include "upstream/variable.h"

#include <algorithm>

#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/dialect/dialect.h"
#include "upstream/dialect/older_variable.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

namespace {

nb::object deref(const nb::object& value) {
  return is_array_ref(value) ? nb::object(value[nb::ellipsis()]) : value;
}

// True for a Variable whose value and metadata are read past its methods.
bool is_read_directly(nb::handle variable) {
  return py::is_subtype(variable.type(), facade().variable) && has(Feature::kFastVariables);
}

// A stored attribute, or an invalid object. No code of the class runs.
nb::object stored_attribute(nb::handle object, nb::handle name) {
  PyObject* value = PyObject_GenericGetAttr(object.ptr(), name.ptr());
  if (value == nullptr) PyErr_Clear();
  return nb::steal(value);
}

// What `ask` returns, or an invalid object where it raises a ValueError.
template <typename Ask>
nb::object or_nothing(Ask&& ask) {
  try {
    return ask();
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_ValueError)) throw;
    return {};
  }
}

// True if two dicts have the same objects under the same names.
bool has_same_items(nb::handle left, nb::handle right) {
  const auto items = py::dict_items(left);
  if (items.size() != nb::len(right)) return false;
  return std::ranges::all_of(
      items, [&](const py::Item& item) { return py::dict_get(right, item.first).is(item.second); });
}

// The Variable type that a collection is registered for, or an invalid object.
nb::object registered_type(nb::handle collection) {
  const Facade& f = facade();
  if (f.variable_types.is_valid()) return py::dict_get(f.variable_types, collection);
  return or_nothing([&] { return f.variable_type_from_name(collection); });
}

void set_raw_value(nb::handle variable, nb::handle value) {
  if (dialect().has_older_variables) return older::set_raw_value(variable, value);
  py::get(variable, names().set_raw_value)(value, nb::arg("_unsafe_bypass_check") = true);
}

// The flags that Flax gives to a Variable which is made now and says nothing of them. Before Flax
// 0.12.5 nnx.var_defaults does not tell them all, so a Variable is asked.
nb::dict default_flags() {
  const Facade& f = facade();
  const nb::object defaults =
      f.var_defaults.is_valid() ? nb::object(f.var_defaults()) : nb::object();
  nb::dict metadata;  // of a fresh Variable, if one has to be asked
  nb::dict flags;
  for (const nb::object& key : py::elements(f.required_metadata)) {
    if (key.equal(private_names().eager_sharding)) continue;
    nb::object value;
    if (defaults.is_valid()) value = py::get_optional(defaults, key);
    if (!value.is_valid()) {
      if (nb::len(metadata) == 0)
        metadata = nb::cast<nb::dict>(f.variable(0).attr("get_metadata")());
      value = metadata[key];
    }
    flags[key] = value;
  }
  return flags;
}

}  // namespace

bool is_plain_variable(nb::handle object) {
  return py::is_subtype(object.type(), facade().variable);
}

bool is_variable(nb::handle object) {
  if (is_plain_variable(object)) return true;
  const nb::handle type = object.type();
  const Facade& f = facade();
  if (py::is_subtype(type, f.hijax_variable) || older::is_variable_state(object)) return true;
  return py::is_subtype(type, f.tracer) && py::is_instance(object, f.variable);
}

bool is_bare_variable(nb::handle object) {
  if (!is_plain_variable(object) || is_array_ref(raw_value(object))) return false;
  for (const auto& [name, value] : py::dict_items(metadata_view(object))) {
    const bool is_hook = nb::isinstance<nb::str>(name) && py::utf8(name).starts_with("on_");
    if (is_hook) return false;
  }
  return true;
}

nb::object variable_type(nb::handle variable) {
  if (is_plain_variable(variable)) return nb::borrow(variable.type());
  if (older::is_variable_state(variable)) return py::get(variable, nb::str("type"));
  return py::get(variable, private_names().var_type);
}

nb::object raw_value(nb::handle variable) {
  if (dialect().has_older_variables) return older::raw_value(variable);
  if (is_read_directly(variable)) return py::get(variable, private_names().raw_value);
  return py::get(variable, private_names().get_raw_value)();
}

nb::object stored_value(nb::handle variable) {
  nb::object value = deref(raw_value(variable));
  if (is_jax_array(value)) return value;
  const nb::object flattened = facade().tree_flatten(value);
  return flattened[1].attr("unflatten")(flattened[0]);
}

nb::object shown_value(nb::handle variable, const nb::dict& metadata) {
  const PrivateNames& n = private_names();
  if (dialect().has_older_variables) {
    return older::has_get_hook(metadata) ? py::get(variable, n.value) : stored_value(variable);
  }
  const bool overrides = is_plain_variable(variable) &&
                         !py::get(variable.type(), n.get_value).is(facade().variable_get_value);
  const bool has_hook = overrides || metadata.contains(n.on_get_value);
  return has_hook ? nb::object(py::get(variable, n.get_value)()) : stored_value(variable);
}

void store_value(nb::handle variable, nb::handle value) {
  const nb::object current = raw_value(variable);
  if (is_array_ref(current) && (is_jax_array(value) || is_array_ref(value))) {
    nb::object array = deref(nb::borrow(value));
    current[nb::ellipsis()] = array;
    return;
  }
  set_raw_value(variable, value);
}

void restore_variable(nb::handle variable, nb::handle raw_value, nb::handle metadata,
                      std::vector<nb::object>& dying) {
  const PrivateNames& n = private_names();
  if (dialect().has_older_variables) return older::restore(variable, raw_value, metadata, dying);
  if (!is_plain_variable(variable)) return set_raw_value(variable, raw_value);
  if (!has(Feature::kFastVariables)) {  // Flax's methods refuse where a trace closes over it
    if (!upstream::raw_value(variable).is(raw_value)) set_raw_value(variable, raw_value);
    const bool is_same = has_same_items(upstream::metadata(variable), metadata);
    if (!is_same) variable.attr("set_metadata")(nb::borrow(metadata));
    return;
  }
  dying.push_back(stored_attribute(variable, n.raw_value));
  py::set_generic(variable, n.raw_value, raw_value);
  const nb::object present = stored_attribute(variable, n.var_metadata);
  if (!present.is_valid() || PyDict_CheckExact(present.ptr()) == 0) {
    dying.push_back(present);
    py::set_generic(variable, n.var_metadata, metadata);
    return;
  }
  dying.push_back(py::copy_dict(present));
  py::restore_dict(present, metadata);
}

nb::dict metadata(nb::handle variable) {
  if (dialect().has_older_variables) return older::metadata(variable);
  return nb::cast<nb::dict>(py::get(variable, private_names().get_metadata)());
}

nb::dict metadata_view(nb::handle variable) {
  return is_read_directly(variable)
             ? nb::cast<nb::dict>(py::get(variable, private_names().var_metadata))
             : metadata(variable);
}

nb::dict box_metadata(nb::handle variable) {
  nb::dict all = metadata(variable);
  if (!facade().boxes_exclude_required) return all;
  nb::dict kept;
  for (const auto& [key, value] : py::dict_items(all)) {
    if (!is_required_metadata(key)) kept[key] = value;
  }
  return kept;
}

bool is_required_metadata(nb::handle name) {
  return py::contains(facade().required_metadata, name);
}

bool is_rng_state(nb::handle variable) {
  return py::is_subtype(variable_type(variable), facade().rng_state);
}

nb::object type_for_collection(nb::handle collection) {
  const Facade& f = facade();
  nb::object type = registered_type(collection);
  if (type.is_valid()) return type;
  if (dialect().has_older_variables) return older::make_type(collection);
  return f.variable_type_from_name(collection, nb::arg("allow_register") = true);
}

nb::object collection_of(nb::handle type) {
  const Facade& f = facade();
  if (!f.variable_types.is_valid())
    return or_nothing([&] { return f.variable_name_from_type(type); });
  for (auto& [name, registered] : py::dict_items(f.variable_types)) {
    if (registered.is(type)) return name;
  }
  return {};
}

nb::object collection_of_or_register(nb::handle type, const std::string& where) {
  nb::object name = collection_of(type);
  if (name.is_valid()) return name;
  name = py::get(type, nb::str("__name__"));
  const nb::object holder = registered_type(name);
  if (holder.is_valid()) {
    const std::string text = py::utf8(name);
    raise_value_error({where, "a Variable type that has a collection of its own",
                       "a second type named " + text + " beside the registered " +
                           py::utf8(py::get(holder, nb::str("__module__"))) + "." + text,
                       "Rename the type, or give it a collection with "
                       "nnx.register_variable_name('name', type)."});
  }
  facade().register_variable_name(name, type);
  return name;
}

nb::object made_by_class(nb::handle type, nb::handle value, const nb::dict& metadata) {
  if (!dialect().has_older_variables) return {};
  return older::make(type, value, metadata);
}

bool overrides_init(nb::handle type) {
  return !py::get(type, private_names().init_dunder).is(facade().variable_init);
}

bool has_standard_layout(nb::handle type, const nb::dict& metadata) {
  if (!has(Feature::kFastVariables)) return false;
  for (nb::handle key : {facade().hijax_key, facade().ref_key}) {
    if (!metadata.contains(key) || py::truthy(metadata[key])) return false;
  }
  const auto function_of = [&](nb::handle owner) {
    return py::get(py::get(owner, names().from_metadata), nb::str("__func__"));
  };
  return function_of(type).is(function_of(facade().variable));
}

nb::object new_variable(nb::handle type, nb::handle value, const nb::dict& metadata) {
  return py::get(type, private_names().from_metadata)(value, metadata);
}

void add_required_metadata(nb::dict& metadata) {
  const Facade& f = facade();
  const nb::handle eager = private_names().eager_sharding;
  nb::object defaults;
  for (const nb::object& key : py::elements(f.required_metadata)) {
    if (metadata.contains(key) || key.equal(eager)) continue;
    if (!defaults.is_valid()) defaults = default_flags();
    metadata[key] = defaults[key];
  }
  if (!f.using_eager_sharding.is_valid()) return;
  if (!metadata.contains(eager)) metadata[eager] = f.using_eager_sharding();
}

nb::tuple creation_settings() {
  const Facade& f = facade();
  if (!f.var_defaults.is_valid()) {
    const nb::dict flags = default_flags();
    return nb::make_tuple(f.using_eager_sharding(), flags[f.hijax_key], flags[f.ref_key]);
  }
  const nb::object defaults = f.var_defaults();
  return nb::make_tuple(f.using_eager_sharding(), py::get(defaults, f.hijax_key),
                        py::get(defaults, f.ref_key));
}

}  // namespace nnx_wrappers::upstream
