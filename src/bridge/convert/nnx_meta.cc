#include "bridge/convert/nnx_meta.h"

#include <string>
#include <utility>

#include "bridge/convert/variable_factory.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

enum class Change { kAdd, kRemove };

const char* call_name(Change change) {
  return change == Change::kAdd ? "NNXMeta.add_axis" : "NNXMeta.remove_axis";
}

std::string repr_text(nb::handle object) { return nb::cast<std::string>(nb::repr(object)); }

[[noreturn]] void axis_mismatch(nb::handle expected, nb::handle names, long index,
                                const std::string& got) {
  raise_value_error({call_name(Change::kRemove),
                     "the axis named " + repr_text(expected) + " at index " +
                         std::to_string(index) + " of " + repr_text(names),
                     got, "Use the metadata_params and the axis with which the axis was added."});
}

// The index of an axis, counted from the front. If there are too few names, None is appended to
// them until the index is valid.
size_t position_of(long index, nb::list& names, Change change) {
  constexpr long kMaxAxes = 1000;  // beyond what any array has
  if (index > kMaxAxes) {
    raise_value_error({call_name(change), "the index of an axis", std::to_string(index),
                       "Pass the index at which the array has the axis."});
  }
  const long size = static_cast<long>(nb::len(names)) + (change == Change::kAdd ? 1 : 0);
  if (index < 0) index = std::max(0L, index + size);
  const long needed = change == Change::kAdd ? index : index + 1;
  while (std::cmp_less(nb::len(names), needed)) names.append(nb::none());
  return static_cast<size_t>(index);
}

nb::list changed_names(nb::handle before, long index, nb::handle name, Change change) {
  nb::list names(nb::borrow<nb::object>(before));
  const size_t at = position_of(index, names, change);
  if (change == Change::kAdd) {
    names.insert(static_cast<Py_ssize_t>(at), nb::borrow(name));
    return names;
  }
  const nb::object removed = names[at];
  if (!py::equal(removed, name)) axis_mismatch(name, before, index, repr_text(removed));
  names.attr("pop")(at);
  return names;
}

// The sharding annotation after the change, of the same type as before: names, a PartitionSpec or a
// NamedSharding. Annotations of other types, such as layouts, have no axis names and stay.
nb::object changed_sharding(nb::handle sharding, long index, nb::handle name, Change change) {
  const upstream::Facade& f = upstream::facade();
  if (py::is_instance(sharding, f.named_sharding)) {
    const nb::object spec = changed_sharding(sharding.attr("spec"), index, name, change);
    return f.named_sharding(sharding.attr("mesh"), spec);
  }
  const bool is_spec = py::is_instance(sharding, f.partition_spec);
  if (!is_spec && !nb::isinstance<nb::tuple>(sharding) && !nb::isinstance<nb::list>(sharding)) {
    return nb::borrow(sharding);
  }
  const nb::tuple names(changed_names(sharding, index, name, change));
  return is_spec ? f.partition_spec(*names) : nb::object(names);
}

nb::object changed_box(nb::handle box, long index, nb::handle params, Change change) {
  const upstream::Names& n = upstream::names();
  const char* call = call_name(change);
  if (!py::is_mapping(params)) {
    raise_type_error({call, "metadata_params (a mapping)", py::describe(params),
                      "Pass metadata_params={nn.PARTITION_NAME: 'axis'} to the transformation."});
  }
  nb::object axis_name = nb::none();
  const nb::object variable =
      variable_from_metadata(py::get(box, n.var_type), py::get(box, n.value),
                             py::to_dict(py::get(box, n.metadata)), Placement::kNever);
  nb::dict metadata = upstream::metadata(variable);
  for (const auto& [key, value] : py::mapping_items(params)) {
    if (key.equal(n.partition_name)) {
      axis_name = value;
      continue;
    }
    const nb::object current = py::dict_get(metadata, key);
    if (current.is_valid() && nb::isinstance<nb::tuple>(current) && nb::len(current) != 0) {
      metadata[key] = nb::tuple(changed_names(current, index, value, change));
    }
  }
  const nb::object sharding = py::dict_get(metadata, upstream::facade().sharding_key);
  if (sharding.is_valid() && py::truthy(sharding)) {
    metadata[upstream::facade().sharding_key] =
        changed_sharding(sharding, index, axis_name, change);
  }
  nb::object changed =
      upstream::new_variable(upstream::variable_type(variable), py::get(box, n.value), metadata);
  py::get(changed, change == Change::kAdd ? n.add_axis : n.remove_axis)(index, axis_name);
  nb::dict after = upstream::metadata(changed);
  // Flax's boxes hold the required entries in some versions only, so the new box has them only if
  // the old one did.
  const nb::object before = py::get(box, n.metadata);
  for (const auto& [key, value] : py::dict_items(after)) {
    if (upstream::is_required_metadata(key) && !py::contains(before, key)) {
      py::remove(after, key);
    }
  }
  return py::get(box, n.replace)(nb::arg("value") = upstream::stored_value(changed),
                                 nb::arg("metadata") = after);
}

}  // namespace

nb::object nnx_meta_add_axis(nb::handle box, long index, nb::handle params) {
  return changed_box(box, index, params, Change::kAdd);
}

nb::object nnx_meta_remove_axis(nb::handle box, long index, nb::handle params) {
  return changed_box(box, index, params, Change::kRemove);
}

nb::object nnx_meta_partition_spec(nb::handle box) {
  const upstream::Names& n = upstream::names();
  const upstream::Facade& f = upstream::facade();
  const nb::dict metadata = py::to_dict(py::get(box, n.metadata));
  const nb::object own_rules = py::dict_get(metadata, n.sharding_rules);
  const bool follows_own_rules =
      own_rules.is_valid() && py::truthy(own_rules) && !py::truthy(f.logical_axis_rules());
  if (follows_own_rules) return f.nnx_meta.attr("get_partition_spec")(box);
  nb::object sharding = sharding_of(metadata);
  if (sharding.is_none()) {
    const bool has_shape = py::get_optional(py::get(box, n.value), n.shape).is_valid();
    return has_shape ? f.partition_spec() : nb::none();
  }
  if (py::is_instance(sharding, f.partition_spec)) return sharding;
  if (nb::isinstance<nb::tuple>(sharding) || nb::isinstance<nb::list>(sharding)) {
    return f.partition_spec(*nb::tuple(sharding));
  }
  const nb::object spec = py::get_optional(sharding, nb::str("spec"));
  if (spec.is_valid()) return spec;
  raise_value_error({"NNXMeta.get_partition_spec", "axis names, a PartitionSpec or a NamedSharding",
                     py::describe(sharding), "Annotate the Variable with one of them."});
}

nb::object nnx_meta_to_variable(nb::handle box) {
  const upstream::Names& n = upstream::names();
  return variable_from_metadata(py::get(box, n.var_type), py::get(box, n.value),
                                py::to_dict(py::get(box, n.metadata)));
}

}  // namespace nnx_wrappers::bridge
