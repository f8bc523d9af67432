#include "flax/scope.h"

#include "flax/facade.h"
#include "flax/linen.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::flax {

namespace {

// hash((id(self.root._variables), self.path, id(self.rng_counters)))
nb::object hash_parts(nb::handle scope) {
  const py::Names& n = py::names();
  const nb::dict attributes = py::instance_dict(scope);
  const nb::object parent_root = attributes[n.root];
  const nb::object root = parent_root.is_none() ? nb::borrow(scope) : parent_root;
  return nb::make_tuple(py::id(py::instance_dict(root)[n.all_variables]), attributes[n.path],
                        py::id(attributes[n.rng_counters]));
}

}  // namespace

bool is_initializing_scope(nb::handle scope) {
  const py::Names& n = py::names();
  const nb::object flags = level_dict(py::get(scope, n.flags));
  if (!flags.is_valid()) throw InternalError("a scope whose flags are no FrozenDict");
  const nb::object flag = py::dict_get(flags, n.initializing_property);
  return flag.is_valid() && nb::cast<bool>(nb::bool_(flag));
}

nb::object scope_variable(nb::handle scope, nb::handle collection, nb::handle name) {
  const py::Names& n = py::names();
  // What the scope has looked up before is in its own dict of collections.
  const nb::object collections = py::dict_get(py::instance_dict(scope), n.all_variables);
  if (collections.is_valid() && PyDict_CheckExact(collections.ptr()) != 0) {
    const nb::object level = py::dict_get(collections, collection);
    if (level.is_valid() && PyDict_CheckExact(level.ptr()) != 0) {
      nb::object value = py::dict_get(level, name);
      if (value.is_valid()) return value;
    }
  }
  // The scope itself stands for "missing": no variable is a scope.
  nb::object value = py::get(scope, n.get_variable)(collection, name, scope);
  return value.is(scope) ? nb::object() : value;
}

void reserve(nb::handle scope, nb::handle name, nb::handle collection) {
  const py::Names& n = py::names();
  const nb::object reservations = py::dict_get(py::instance_dict(scope), n.reservations);
  const bool is_new = PyUnicode_CheckExact(name.ptr()) != 0 && reservations.is_valid() &&
                      !py::contains(reservations, name);
  if (is_new) {
    py::get(reservations[name], n.add)(collection);
  } else {
    py::get(scope, n.reserve)(name, collection);
  }
}

nb::object undrawn_rngs(nb::handle scope) { return py::instance_dict(scope)[py::names().rngs]; }

nb::object key_type(nb::handle scope, nb::handle stream) {
  const py::Names& n = py::names();
  const nb::object key = py::get(undrawn_rngs(scope)[stream], n.rng);
  return nb::make_tuple(py::get(key, n.shape), py::get(key, n.dtype));
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

void hash_in_c(nb::handle scope_class) { py::set_hash(scope_class, hash_parts); }

}  // namespace nnx_wrappers::flax
