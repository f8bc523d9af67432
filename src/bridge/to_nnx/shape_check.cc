#include "bridge/to_nnx/shape_check.h"

#include <algorithm>
#include <optional>
#include <string>

#include "bridge/rng/lazy_keys.h"
#include "bridge/to_nnx/shape_check_cache.h"
#include "graph/guard_recorder.h"
#include "graph/static_key.h"
#include "nnx_wrappers/errors.h"
#include "py/call_recorder.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/python_class.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/initializers.h"
#include "upstream/linen.h"
#include "upstream/module_stack.h"
#include "upstream/names.h"
#include "upstream/qwix.h"
#include "upstream/scope.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The shapes of the leaves of a parameter, or an invalid object if a leaf has none.
nb::object shapes_of(nb::handle value) {
  const upstream::Names& n = upstream::names();
  const upstream::Facade& f = upstream::facade();
  if (upstream::is_jax_array(value)) return upstream::shape_of(value);
  nb::list shapes;
  shapes.append("pytree");  // tells a pytree without leaves from a scalar, whose shape is ()
  for (const nb::object& leaf : py::elements(f.tree_flatten(value)[0])) {
    const nb::object shape = py::get_optional(leaf, n.shape);
    if (!shape.is_valid()) return {};
    shapes.append(shape);
  }
  return nb::tuple(shapes);
}

// The arguments of Scope.param.
struct ParamCall {
  nb::handle scope;
  nb::handle name;
  nb::handle init_fn;
  const nb::tuple& init_args;
  bool unbox;
  const nb::dict& init_kwargs;
};

// True if the value has the shape that the initializer is asked for, and the initializer gives
// arrays of all shapes of as many axes, if of one.
bool has_shape_asked_for(const ParamCall& call, nb::handle value) {
  // The shape and a dtype: with a sharding, for one, it depends on the lengths.
  const size_t given = nb::len(call.init_args);
  const bool is_usual = (given == 1 || given == 2) && nb::len(call.init_kwargs) == 0;
  if (!is_usual || !upstream::is_jax_array(value)) return false;
  const nb::object asked = call.init_args[0];
  if (!py::is_list_or_tuple(asked) || !upstream::works_for_all_lengths(call.init_fn)) return false;
  const auto is_length = [](const nb::object& axis) {
    return PyLong_CheckExact(axis.ptr()) != 0 && py::truthy(axis);
  };
  return std::ranges::all_of(py::elements(asked), is_length) &&
         upstream::shape_of(value).equal(nb::tuple(asked));
}

// The key of everything that Flax's check depends on, or an invalid object if there is none.
nb::object check_key(const ParamCall& call, nb::handle value) {
  nb::object function = graph::static_key(call.init_fn);
  if (!function.is_valid()) return {};
  const bool is_of_any_lengths = has_shape_asked_for(call, value);
  const nb::object rest =
      nb::steal(PyTuple_GetSlice(call.init_args.ptr(), is_of_any_lengths ? 1 : 0, PY_SSIZE_T_MAX));
  nb::object args = graph::static_key(rest);
  if (!args.is_valid()) return {};
  nb::object kwargs = graph::static_key_of_keywords(call.init_kwargs);
  if (!kwargs.is_valid()) return {};
  nb::object shapes = is_of_any_lengths ? nb::object(nb::int_(nb::len(upstream::shape_of(value))))
                                        : shapes_of(value);
  if (!shapes.is_valid()) return {};
  return nb::make_tuple(function, args, kwargs, shapes, graph::trace_context_key());
}

nb::object param_by_flax(nb::handle scope, const ParamCall& call, bool unbox) {
  nb::list positional;
  for (nb::handle arg : {scope, call.name, call.init_fn}) positional.append(arg);
  for (nb::handle arg : call.init_args) positional.append(arg);
  nb::dict keywords = py::copy_dict(call.init_kwargs);
  keywords[upstream::names().unbox] = unbox;
  return py::call(py::get(upstream::facade().scope, upstream::names().param), nb::tuple(positional),
                  keywords);
}

nb::object param_by_flax(const ParamCall& call) {
  return param_by_flax(call.scope, call, call.unbox);
}

// Runs Flax's check of a parameter that has been taken out of its box. Taken out a second time, it
// would be constrained to its sharding by a second equation.
void check_by_flax(const ParamCall& call, nb::handle value) {
  param_by_flax(upstream::scope_with_param(call.scope, call.name, value), call, false);
}

// The same, and remembers that it has passed.
void check_and_remember(const ParamCall& call, nb::handle value, nb::handle key) {
  graph::GuardRecorder recorder;
  for (const nb::handle given :
       {call.init_fn, nb::handle(call.init_args), nb::handle(call.init_kwargs)}) {
    for (const nb::object& root : graph::known_by_identity(given)) {
      recorder.add_root(root, py::full_name(root));
    }
  }
  recorder.start();
  check_by_flax(call, value);
  ShapeCheckCache::get().add(key, recorder.finish());
}

// The method that linen.Module.apply would run, as a function of the module. An invalid object for
// a submodule, which `apply` finds by its name.
nb::object method_of(nb::handle linen_module, nb::handle method) {
  const upstream::Facade& f = upstream::facade();
  if (method.is_none())
    return f.unbound_function(py::get(linen_module, upstream::names().call_dunder));
  if (!nb::isinstance<nb::str>(method)) return f.unbound_function(method);
  const nb::object found = py::get(linen_module, method);
  if (PyCallable_Check(found.ptr()) == 0) {
    const std::string name = py::type_name(linen_module.type()) + "." + py::utf8(method);
    raise_type_error({"ToNNX, " + name, "a method (it must be a callable)", py::describe(found),
                      "Choose a method of the Linen class."});
  }
  return upstream::is_linen_module(found) ? nb::object() : f.unbound_function(found);
}

}  // namespace

nb::object checked_param(nb::handle scope, nb::handle name, nb::handle init_fn,
                         const nb::tuple& init_args, bool unbox, const nb::dict& init_kwargs) {
  using Status = ShapeCheckCache::Status;
  const ParamCall call{scope, name, init_fn, init_args, unbox, init_kwargs};
  const upstream::Names& n = upstream::names();
  nb::object value = upstream::scope_variable(scope, n.params, name);
  // Qwix counts the operations of initializers too, so while it intercepts each of them has to run.
  if (!value.is_valid() || upstream::qwix_interceptors().is_valid()) return param_by_flax(call);
  upstream::reserve(scope, name, n.params);
  if (unbox && !upstream::is_jax_array(value)) {
    value = upstream::facade().unbox(value);
  }
  const bool may_keep = upstream::has(upstream::Feature::kShapeChecks);
  const nb::object key = may_keep ? check_key(call, value) : nb::object();
  // During a recording the initializer has to run, since the recording depends on what it reads.
  const bool may_be_cached = key.is_valid() && !py::CallRecorder::is_recording();
  const Status status = may_be_cached ? ShapeCheckCache::get().find(key) : Status::kNotCacheable;
  if (status == Status::kNotCacheable) check_by_flax(call, value);
  if (status == Status::kUnknown) check_and_remember(call, value, key);
  return value;
}

nb::object apply_linen(nb::handle linen_module, const LinenCall& call, const nb::tuple& args,
                       const nb::dict& kwargs) {
  const upstream::Names& n = upstream::names();
  const upstream::Facade& f = upstream::facade();
  const bool is_linen = upstream::is_linen_module(linen_module);
  const bool is_known = is_linen && upstream::facade().unbound_function.is_valid();
  const nb::object function = is_known ? method_of(linen_module, call.method) : nb::object();
  nb::dict given = py::copy_dict(kwargs);
  const nb::tuple positional = py::prepended(call.variables, args);
  given[n.rngs] = call.rngs;
  if (!function.is_valid()) {
    // A submodule by its name, or an object that only behaves as a Linen module: its own `apply`.
    nb::dict keys = drawn_keys(nb::cast<nb::dict>(call.rngs));
    for (const auto& [name, key] : py::dict_items(keys)) {
      const bool is_lazy = !is_linen && key.type().is(f.lazy_rng);
      if (is_lazy) keys[name] = key.attr("as_jax_rng")();
    }
    given[n.rngs] = keys;
    given[n.method] = call.method;
    given[n.mutable_] = call.mutable_;
    return py::call(py::get(linen_module, n.apply), positional, given);
  }
  upstream::run_module_checks(linen_module);
  nb::object capture = py::dict_get(given, n.capture_intermediates);
  if (capture.is_valid()) {
    py::remove(given, n.capture_intermediates);
  } else {
    capture = nb::bool_(false);
  }
  // linen.apply clones the module into a scope that it makes. `clone` changes the class of the
  // scope, before there is a child scope.
  nb::object stack = nb::none();
  std::optional<upstream::ModuleStack> replaced;
  if (upstream::has(upstream::Feature::kLiftedScopes)) {
    stack = py::python_class("ModuleStack", "nnx_wrappers._scope")();
    replaced.emplace(nb::borrow<nb::list>(stack));
  }
  const nb::object cloner = py::python_class("ScopedClone", "nnx_wrappers._scope")(
      linen_module, call.initializing, stack);
  const nb::object run = f.linen_apply(function, cloner, nb::arg("mutable") = call.mutable_,
                                       nb::arg("capture_intermediates") = capture);
  return py::call(run, positional, given);
}

}  // namespace nnx_wrappers::bridge
