#include "bridge/convert/variable_factory.h"

#include <array>

#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// Adds the hooks that the class declares and the metadata lack, as Variable.__init__ does.
void add_class_hooks(nb::handle type, nb::dict& metadata) {
  for (const char* name :
       {"on_get_value", "on_set_value", "on_create_value", "on_add_axis", "on_remove_axis"}) {
    const nb::str key(name);
    if (metadata.contains(key)) continue;
    const nb::object hook = py::get_optional(type, key);
    if (hook.is_valid()) metadata[key] = hook;
  }
}

// Renames the two entries whose names Flax has deprecated.
void rename_sharding(nb::dict& metadata) {
  const nb::handle present = upstream::facade().sharding_key;
  for (const char* old_name : {"sharding", "sharding_names"}) {
    const nb::str key(old_name);
    if (key.equal(present)) return;
    const nb::object value = py::dict_get(metadata, key);
    if (!value.is_valid()) continue;
    py::remove(metadata, key);
    metadata[present] = value;
  }
}

// The value, moved as in Flax to the mesh of its sharding annotation: the one in the metadata, that
// of the sharding, or the global one. Without a mesh it stays where it is.
nb::object place(nb::handle value, const nb::dict& metadata, Placement placement) {
  const upstream::Names& n = upstream::names();
  const upstream::Facade& f = upstream::facade();
  nb::object kept = nb::borrow(value);
  if (placement == Placement::kNever || !upstream::is_jax_array(value)) return kept;
  if (!has_sharding(metadata)) return kept;
  const nb::object sharding = metadata[f.sharding_key];
  if (!py::truthy(metadata[n.eager_sharding])) return kept;
  nb::object mesh = py::dict_get(metadata, n.mesh);
  if (!mesh.is_valid()) mesh = nb::none();
  const nb::object rules = py::dict_get(metadata, n.sharding_rules);
  const bool names_only =
      nb::isinstance<nb::tuple>(sharding) || py::is_instance(sharding, f.partition_spec);
  if (names_only && mesh.is_none() && f.get_global_mesh().is_none()) return kept;
  return f.shard_value(kept, sharding, rules.is_valid() ? rules : nb::none(), mesh);
}

bool flag(const nb::dict& metadata, nb::handle name) { return py::truthy(metadata[name]); }

nb::object in_ref(const nb::object& value, const nb::dict& metadata) {
  return flag(metadata, upstream::facade().ref_key) && upstream::is_jax_array(value)
             ? nb::object(upstream::facade().new_ref(value))
             : value;
}

// A Variable whose class overrides `__init__`, which may add metadata. The metadata are taken from
// the Variable that it makes, but the value is the given one, since create hooks may have changed
// that of the Variable.
nb::object by_constructor(nb::handle type, nb::handle value, const nb::dict& metadata,
                          Placement placement) {
  const upstream::Names& n = upstream::names();
  nb::dict given = py::copy_dict(metadata);
  nb::object eager = py::dict_get(given, n.eager_sharding);
  given[n.eager_sharding] = false;
  nb::object variable = py::call(type, nb::make_tuple(value), given);
  if (!eager.is_valid()) eager = upstream::facade().using_eager_sharding();
  nb::dict made = upstream::metadata(variable);
  made[n.eager_sharding] = eager;
  if (flag(made, upstream::facade().hijax_key)) return variable;
  return upstream::new_variable(variable.type(), in_ref(place(value, made, placement), made), made);
}

}  // namespace

nb::dict default_metadata(nb::handle type) {
  nb::dict metadata;
  upstream::add_required_metadata(metadata);
  add_class_hooks(type, metadata);
  return metadata;
}

bool has_sharding(const nb::dict& metadata) {
  const nb::object sharding = py::dict_get(metadata, upstream::facade().sharding_key);
  return sharding.is_valid() && !sharding.is_none();
}

nb::object sharding_of(const nb::dict& metadata) {
  nb::dict renamed = py::copy_dict(metadata);
  rename_sharding(renamed);
  return has_sharding(renamed) ? nb::object(renamed[upstream::facade().sharding_key]) : nb::none();
}

nb::object variable_from_metadata(nb::handle type, nb::handle value, const nb::dict& metadata,
                                  Placement placement) {
  nb::object by_class = upstream::made_by_class(type, value, metadata);
  if (by_class.is_valid()) return by_class;
  if (upstream::overrides_init(type)) return by_constructor(type, value, metadata, placement);
  nb::dict full = py::copy_dict(metadata);
  upstream::add_required_metadata(full);
  add_class_hooks(type, full);
  rename_sharding(full);
  return upstream::new_variable(type, in_ref(place(value, full, placement), full), full);
}

}  // namespace nnx_wrappers::bridge
