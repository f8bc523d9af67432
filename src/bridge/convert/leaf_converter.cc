#include "bridge/convert/leaf_converter.h"

#include "bridge/convert/nnx_meta.h"
#include "bridge/convert/variable_factory.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/instance.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The metadata of a box. They are read from a copy, since to_nnx_metadata of Flax's
// LogicallyPartitioned removes the fields of the box.
nb::dict metadata_of_box(nb::handle box) {
  const upstream::Names& n = upstream::names();
  const nb::object copy = upstream::facade().copy(box);
  const nb::object to_metadata = py::get_optional(copy, n.to_nnx_metadata);
  if (to_metadata.is_valid()) return py::to_dict(to_metadata());
  return py::copy_dict(py::instance_dict(copy));
}

}  // namespace

LeafConverter::LeafConverter(nb::handle collection, const Where& where)
    : collection_(nb::borrow(collection)) {
  if (!nb::isinstance<nb::str>(collection)) {
    raise_type_error({where(), "the name of a collection (a str)", py::describe(collection),
                      "Use 'params', 'batch_stats' or another collection name."});
  }
  type_ = upstream::type_for_collection(collection);
  if (py::is_class(type_) && py::is_subtype(type_, upstream::facade().variable)) return;
  raise_value_error(
      {where(), "a collection registered for an nnx.Variable type",
       "'" + py::utf8(collection) + "', registered for " + py::describe(type_),
       "Register a Variable type with nnx.register_variable_name(name, type, overwrite=True)."});
}

nb::object LeafConverter::convert(nb::handle leaf, const Where& where) {
  if (upstream::is_jax_array(leaf)) return from_raw(leaf);
  if (py::is_instance(leaf, upstream::facade().nnx_meta)) return from_nnx_meta(leaf, where);
  return upstream::is_axis_metadata(leaf) ? from_box(leaf, where) : from_raw(leaf);
}

nb::object LeafConverter::from_raw(nb::handle value) {
  if (!trace_state_.is_valid()) {
    trace_state_ = upstream::has(upstream::Feature::kFastVariables)
                       ? nb::object(upstream::facade().trace_state())
                       : nb::none();
    if (!upstream::overrides_init(type_)) {
      metadata_ = default_metadata(type_);
      is_simple_ = upstream::has_standard_layout(type_, metadata_) && !has_sharding(metadata_);
    }
  }
  if (!is_simple_) return variable_from_metadata(type_, value, nb::dict());
  return upstream::new_plain_variable(type_, value, py::copy_dict(metadata_), trace_state_);
}

nb::object LeafConverter::from_nnx_meta(nb::handle box, const Where& where) const {
  const nb::object box_type = py::get(box, upstream::names().var_type);
  if (box_type.is(type_)) return nnx_meta_to_variable(box);
  raise_value_error({where(),
                     "a box of " + py::describe(type_) + ", the type of collection '" +
                         py::utf8(collection_) + "'",
                     "a box of " + py::describe(box_type),
                     "Move the leaf to its own collection, or register the type with "
                     "nnx.register_variable_name."});
}

nb::object LeafConverter::from_box(nb::handle box, const Where& where) const {
  const upstream::Names& n = upstream::names();
  nb::dict metadata = metadata_of_box(box);
  const nb::object value = py::dict_get(metadata, n.value);
  if (!value.is_valid()) {
    raise_value_error({where(), "a box with a field 'value'", py::describe(box),
                       "Give the box type a to_nnx_metadata() that returns its value and fields."});
  }
  py::remove(metadata, n.value);
  metadata[n.linen_meta_type] = box.type();
  return variable_from_metadata(type_, value, metadata);
}

}  // namespace nnx_wrappers::bridge
