#include "nnx_wrappers/variables.h"

#include <string>

#include "bridge/convert/leaf_converter.h"
#include "bridge/convert/leaf_for_call.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/python_class.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

void require_variable(nb::handle object, const char* where) {
  if (upstream::is_variable(object)) return;
  raise_type_error({where, "an nnx.Variable", py::describe(object),
                    "Wrap the value, for example nnx.Param(value)."});
}

// True for an entry that says that there are no hooks, as Variables of Flax 0.10.2 have.
bool is_no_hooks(nb::handle key, nb::handle value) {
  const bool is_hooks = nb::isinstance<nb::str>(key) && py::utf8(key).ends_with("_hooks");
  return is_hooks && nb::isinstance<nb::tuple>(value) && nb::len(value) == 0;
}

bool is_vanilla(nb::handle metadata) {
  for (const auto& [key, value] : py::dict_items(metadata)) {
    if (!upstream::is_required_metadata(key) && !is_no_hooks(key, value)) return false;
  }
  return true;
}

// The Linen box that a Variable came from.
nb::object linen_box(const nb::object& value, nb::handle box_type, const nb::dict& metadata) {
  const upstream::Names& n = upstream::names();
  const nb::object from_metadata = py::get_optional(box_type, n.from_nnx_metadata);
  nb::dict fields;
  if (from_metadata.is_valid()) {
    fields[n.value] = value;
    fields.update(metadata);
    try {
      return from_metadata(fields);
    } catch (nb::python_error& error) {
      if (!error.matches(PyExc_KeyError)) throw;
      raise_value_error_from(
          error,
          {"to_linen_var", "all the metadata that a " + py::type_name(box_type) + " box needs",
           "a Variable without " + py::utf8(error.value()),
           "Give the Variable that metadata, or leave out linen_meta_type."});
    }
  }
  for (const auto& [key, value] : py::dict_items(metadata)) {
    const bool is_field = !key.equal(n.linen_meta_type) && !upstream::is_required_metadata(key) &&
                          !is_no_hooks(key, value);
    if (is_field) fields[key] = value;
  }
  return py::call(box_type, nb::make_tuple(value), fields);
}

// A Linen leaf with this value, in the box that the metadata of the Variable ask for.
nb::object to_leaf(nb::handle variable, const nb::dict& metadata, nb::object value) {
  const nb::object box_type = py::dict_get(metadata, upstream::names().linen_meta_type);
  if (box_type.is_valid()) return linen_box(value, box_type, upstream::box_metadata(variable));
  if (is_vanilla(metadata)) return value;
  return py::python_class("NNXMeta")(upstream::variable_type(variable), value,
                                     upstream::box_metadata(variable));
}

}  // namespace

bool is_vanilla_variable(nb::handle variable) {
  require_variable(variable, "is_vanilla_variable");
  return is_vanilla(upstream::metadata_view(variable));
}

nb::object to_linen_var(nb::handle variable) {
  require_variable(variable, "to_linen_var");
  return to_leaf(variable, upstream::metadata_view(variable), upstream::stored_value(variable));
}

nb::object bridge::leaf_for_call(nb::handle variable) {
  const nb::dict metadata = upstream::metadata_view(variable);
  return to_leaf(variable, metadata, upstream::shown_value(variable, metadata));
}

nb::str get_col_name(nb::handle keypath) {
  if (PySequence_Check(keypath.ptr()) == 0 || nb::isinstance<nb::str>(keypath)) {
    raise_type_error({"get_col_name", "a JAX key path (a tuple of keys)", py::describe(keypath),
                      "Use the paths of jax.tree_util.tree_map_with_path."});
  }
  if (nb::len(keypath) == 0) {
    raise_value_error({"get_col_name", "a key path that begins with a collection", "an empty path",
                       "Give the path of a leaf inside a dict of collections."});
  }
  const nb::object head = keypath[0];
  if (!py::is_instance(head, upstream::facade().dict_key)) {
    raise_type_error({"get_col_name", "a jax.tree_util.DictKey at the head of the path",
                      py::describe(head), "Give the path of a leaf inside a dict of collections."});
  }
  return nb::str(py::get(head, upstream::names().key));
}

nb::object to_nnx_var(nb::handle collection, nb::handle leaf) {
  const auto where = [] { return std::string("to_nnx_var"); };
  return bridge::LeafConverter(collection, where).convert(leaf, where);
}

}  // namespace nnx_wrappers
