#include "upstream/scope.h"

#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/linen.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

namespace {

nb::object no_reservations() {
  return facade().defaultdict(nb::borrow(reinterpret_cast<PyObject*>(&PySet_Type)));
}

// Runs a method of flax.core.Scope while the scope is of that class. The methods read `rngs` to
// pass it on, and in a subclass that may draw keys.
nb::object call_flax_method(nb::handle scope, const char* method, const nb::tuple& args) {
  const nb::object own_class = nb::borrow(scope.type());
  const nb::object flax_class = nb::borrow(facade().scope);
  nb::setattr(scope, "__class__", flax_class);
  nb::object made;
  try {
    made = py::call(scope.attr(method), args, nb::dict());
  } catch (...) {
    nb::setattr(scope, "__class__", own_class);
    throw;
  }
  nb::setattr(scope, "__class__", own_class);
  nb::setattr(made, "__class__", own_class);
  return made;
}

// False for a scope that is over, or whose streams the user has replaced by something else than a
// dict.
bool is_valid_with_streams(nb::handle scope) {
  const PrivateNames& n = private_names();
  const nb::dict attributes = py::instance_dict(scope);
  return attributes[n.invalid].ptr() == Py_False &&
         PyDict_CheckExact(nb::object(attributes[n.rngs]).ptr()) != 0;
}

// The counters of a child scope's streams: those of an earlier child of this name, or new ones.
nb::object child_counters(const nb::dict& counters, nb::handle name, const nb::dict& rngs) {
  const nb::object key = nb::make_tuple(nb::borrow(facade().child_rng_token), name);
  nb::object known = py::dict_get(counters, key);
  if (known.is_valid()) return known;
  nb::dict made;
  for (const auto& [stream, rng] : py::dict_items(rngs)) made[stream] = 0;
  counters[key] = made;
  return made;
}

}  // namespace

bool takes_lazy_rngs() {
  static constinit py::Once<const bool> answer;
  return answer.get([] {
    const Facade& f = facade();
    if (!f.lazy_rng.is_valid() || !f.core_apply.is_valid()) return false;
    const nb::object does_nothing = nb::module_::import_("builtins").attr("id");
    nb::dict rngs;
    rngs["params"] = f.lazy_rng(nb::str("key"), nb::tuple());
    try {
      f.core_apply(does_nothing)(nb::dict(), nb::arg("rngs") = rngs);
    } catch (nb::python_error& error) {
      if (!error.matches(PyExc_ValueError)) throw;
      return false;
    }
    return true;
  });
}

bool is_initializing_scope(nb::handle scope) {
  const PrivateNames& n = private_names();
  const nb::object flags = level_dict(py::get(scope, n.flags));
  if (!flags.is_valid()) throw InternalError("a scope whose flags are no FrozenDict");
  const nb::object flag = py::dict_get(flags, n.initializing_property);
  return flag.is_valid() && py::truthy(flag);
}

nb::object scope_variable(nb::handle scope, nb::handle collection, nb::handle name) {
  const PrivateNames& n = private_names();
  // The scope keeps the collections that it has looked up in a dict.
  const nb::object collections = py::dict_get(py::instance_dict(scope), n.all_variables);
  if (collections.is_valid() && PyDict_CheckExact(collections.ptr()) != 0) {
    const nb::object level = py::dict_get(collections, collection);
    if (level.is_valid() && PyDict_CheckExact(level.ptr()) != 0) {
      nb::object value = py::dict_get(level, name);
      if (value.is_valid()) return value;
    }
  }
  // The scope itself is the default that stands for a missing variable.
  nb::object value = py::get(scope, n.get_variable)(collection, name, scope);
  return value.is(scope) ? nb::object() : value;
}

void reserve(nb::handle scope, nb::handle name, nb::handle collection) {
  const PrivateNames& n = private_names();
  const nb::object reservations = py::dict_get(py::instance_dict(scope), n.reservations);
  const bool is_new = PyUnicode_CheckExact(name.ptr()) != 0 && reservations.is_valid() &&
                      !py::contains(reservations, name);
  if (is_new) {
    py::get(reservations[name], n.add)(collection);
  } else {
    py::get(scope, n.reserve)(name, collection);
  }
}

nb::object undrawn_rngs(nb::handle scope) { return py::instance_dict(scope)[private_names().rngs]; }

nb::object key_type(nb::handle scope, nb::handle stream) {
  const PrivateNames& n = private_names();
  const nb::object key = py::get(undrawn_rngs(scope)[stream], n.rng);
  return nb::make_tuple(py::get(key, n.shape), py::get(key, n.dtype));
}

bool key_varies(nb::handle scope, nb::handle stream) {
  const PrivateNames& n = private_names();
  const nb::object key = py::get(undrawn_rngs(scope)[stream], n.rng);
  if (!is_tracer(key)) return false;
  const nb::object aval = py::get(key, n.aval);
  nb::object axes = py::get_optional(aval, nb::str("vma"));  // before JAX 0.10
  const nb::object manual = py::get_optional(aval, nb::str("mat"));
  if (manual.is_valid()) axes = py::get_optional(manual, nb::str("varying"));
  return axes.is_valid() && py::truthy(axes);
}

nb::object draw_key(nb::handle scope, nb::handle stream) {
  return py::get(scope, private_names().make_rng)(stream);
}

void skip_key(nb::handle scope, nb::handle stream) {
  scope.attr("_check_valid")();
  scope.attr("_validate_trace_level")();
  const nb::object counters = scope.attr("rng_counters");
  counters[stream] = counters[stream] + nb::int_(1);
}

// hash((id(self.root._variables), self.path, id(self.rng_counters)))
nb::object hash_parts(nb::handle scope) {
  const PrivateNames& n = private_names();
  const nb::dict attributes = py::instance_dict(scope);
  const nb::object parent_root = attributes[n.root];
  const nb::object root = parent_root.is_none() ? nb::borrow(scope) : parent_root;
  return nb::make_tuple(py::id(py::instance_dict(root)[n.all_variables]), attributes[n.path],
                        py::id(attributes[n.rng_counters]));
}

nb::object rewound(nb::handle scope, bool rewind_rngs) {
  const bool is_usual = !rewind_rngs && has(Feature::kNativeScopes) && is_valid_with_streams(scope);
  return is_usual ? rewound_natively(scope)
                  : call_flax_method(scope, "rewound", nb::make_tuple(rewind_rngs));
}

nb::object rewound_natively(nb::handle scope) {
  const PrivateNames& n = private_names();
  const nb::dict attributes = py::instance_dict(scope);
  nb::dict made = py::copy_dict(attributes);
  made[n.rngs] = py::copy_dict(attributes[n.rngs]);
  made[n.reservations] = no_reservations();
  made[n.trace_level] = facade().current_trace();
  return py::instance_with(scope.type(), made);
}

nb::object pushed(nb::handle scope, nb::handle name, nb::handle prefix, bool reuse) {
  // In its own trace, so that the child is of the trace that the scope is of.
  const bool is_usual =
      PyUnicode_CheckExact(name.ptr()) != 0 && has(Feature::kNativeScopes) &&
      is_valid_with_streams(scope) &&
      py::equal(facade().current_trace(),
                nb::object(py::instance_dict(scope)[private_names().trace_level]));
  return is_usual ? pushed_natively(scope, name, reuse)
                  : call_flax_method(scope, "push", nb::make_tuple(name, prefix, reuse));
}

nb::object pushed_natively(nb::handle scope, nb::handle name, bool reuse) {
  const PrivateNames& n = private_names();
  const Facade& f = facade();
  const nb::dict attributes = py::instance_dict(scope);
  const bool is_there = reuse && py::contains(nb::object(attributes[n.reservations]), name);
  if (!is_there) reserve(scope, name, nb::none());
  const nb::object step = nb::make_tuple(name);
  nb::dict rngs;
  for (const auto& [stream, rng] : py::dict_items(attributes[n.rngs])) {
    rngs[stream] = py::get(f.lazy_rng, n.create)(rng, name);
  }
  const nb::object root = attributes[n.root];
  nb::dict made;
  made[n.all_variables] = nb::dict();
  made[n.parent] = scope;
  made[n.name] = name;
  made[n.path] = attributes[n.path] + step;
  made[n.debug_path] = attributes[n.debug_path] + step;
  made[n.rngs] = rngs;
  made[n.mutable_] = attributes[n.mutable_];
  made[n.flags] = attributes[n.flags];
  made[n.root] = root.is_none() ? nb::borrow(scope) : root;
  made[n.trace_level] = attributes[n.trace_level];
  made[n.rng_counters] =
      child_counters(nb::cast<nb::dict>(nb::object(attributes[n.rng_counters])), name, rngs);
  made[n.reservations] = no_reservations();
  made[n.invalid] = false;
  return py::instance_with(scope.type(), made);
}

nb::object scope_with_param(nb::handle scope, nb::handle name, nb::handle value) {
  const PrivateNames& n = private_names();
  nb::dict params;
  params[name] = value;
  nb::dict variables;
  variables[n.params] = params;
  return facade().scope(variables, nb::arg("name") = py::get(scope, n.name),
                        nb::arg("path") = py::get(scope, n.path),
                        nb::arg("debug_path") = py::get(scope, n.debug_path));
}

void hash_in_c(nb::handle scope_class) {
  if (has(Feature::kNativeScopes)) py::set_hash(scope_class, hash_parts);
}

}  // namespace nnx_wrappers::upstream
