#include "nnx_wrappers/to_nnx.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "bridge/report/usage.h"
#include "bridge/rng/lazy_keys.h"
#include "bridge/to_nnx/attributes.h"
#include "bridge/to_nnx/linen_layout.h"
#include "bridge/to_nnx/python_methods.h"
#include "bridge/to_nnx/shape_check.h"
#include "bridge/to_nnx/updates.h"
#include "graph/snapshot.h"
#include "nnx_wrappers/collections.h"
#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/lazy_init.h"
#include "nnx_wrappers/rngs.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/python_class.h"
#include "upstream/array.h"
#include "upstream/context_queries.h"
#include "upstream/dialect/wrapper.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/node.h"
#include "upstream/pytree_state.h"
#include "upstream/variable.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

constexpr const char* kInitRemedy =
    "Call lazy_init(module, *sample_inputs) (or module.lazy_init(*sample_inputs)) first, so that "
    "the Linen module makes its variables.";

std::string class_of(nb::handle linen_module) { return py::type_name(linen_module.type()); }

bool is_callable(nb::handle object, nb::handle name) {
  const nb::object found = py::get_optional(object, name);
  return found.is_valid() && PyCallable_Check(found.ptr()) != 0;
}

// Accepts also an object that only behaves as a Linen module, such as a proxy.
void require_linen_module(nb::handle module) {
  if (upstream::is_linen_module(module)) return;
  const bool is_linen_class =
      py::is_class(module) && py::is_subtype(module, upstream::facade().linen_module);
  const bool is_nnx = upstream::is_pytree(module);
  const upstream::Names& n = upstream::names();
  if (!py::is_class(module) && !is_nnx && !module.is_none() &&
      is_callable(module, n.init_with_output) && is_callable(module, n.apply)) {
    return;
  }
  std::string remedy = "Pass an instance of a flax.linen.Module.";
  if (is_linen_class) {
    remedy = "Pass an instance: ToNNX(" + py::type_name(module) + "(...), rngs=rngs).";
  } else if (is_nnx) {
    remedy = "It is an NNX module already; use it as it is.";
  }
  raise_type_error({"ToNNX", "an instance of a Linen module", py::describe(module), remedy});
}

nb::object kept_rngs(nb::handle rngs) {
  const upstream::Facade& f = upstream::facade();
  if (rngs.is_none()) return nb::none();
  if (py::is_instance(rngs, f.rngs)) return upstream::streams_for_wrapper(rngs);
  if (upstream::is_jax_array(rngs)) return f.rngs(nb::arg("params") = rngs);
  raise_type_error({"ToNNX, rngs", "nnx.Rngs, a JAX random key or None", py::describe(rngs),
                    "Pass rngs=nnx.Rngs(0), for example."});
}

// Adds a sentence to the message of an error. The error object stays the same, for `except` clauses
// and tracebacks.
void append_remedy(nb::python_error& error, const std::string& remedy) {
  const nb::object value = nb::borrow(error.value());
  const std::string text = py::utf8(value);
  py::set(value, upstream::names().args, nb::make_tuple(text + " " + remedy));
}

// A call of a ToNNX: its arguments, and the Linen module that it runs.
struct Call {
  nb::handle self;
  nb::handle linen_module;
  const nb::tuple& args;
  const nb::dict& kwargs;
  const ToNNXCall& options;

  std::string where() const { return "ToNNX(" + class_of(linen_module) + ")"; }

  bridge::LinenLayout layout() const {
    return bridge::LinenLayout::of(linen_module, options.method, args, kwargs);
  }
};

// True if there is an attribute at the path of a variable of the Linen module, whatever its type.
bool has_any_state(nb::handle to_nnx, const bridge::LinenLayout& layout) {
  return bridge::has_variables(to_nnx) ||
         std::ranges::any_of(layout.entries(), [&](const bridge::LinenLayout::Entry& entry) {
           return bridge::attribute_at(to_nnx, entry.path).is_valid();
         });
}

// The text for a module that has variables, but not the one that Linen asked for.
std::string missing_variable_text(const Call& call, const bridge::LinenLayout& layout) {
  for (const auto& entry : layout.entries()) {
    const nb::object present = bridge::attribute_at(call.self, entry.path);
    const nb::object type = upstream::type_for_collection(entry.collection);
    if (present.is_valid() && upstream::is_variable(present) &&
        upstream::variable_type(present).is(type)) {
      continue;
    }
    const std::string got = present.is_valid() ? py::describe(present) : "nothing";
    return call.where() + ", " + bridge::to_string(entry) + ": expected a " + py::type_name(type) +
           ", got " + got + ". Set a Variable of this type with the trained value; the other " +
           "variables stay as they are.";
  }
  return call.where() + " has variables, but not those that this call needs: lazy_init may have " +
         "been called with another method, or with inputs of another kind.";
}

// Rethrows Linen's error for a variable that it could not find, with what to do about it.
[[noreturn]] void rethrow_not_found(nb::python_error& error, const Call& call) {
  const upstream::Facade& f = upstream::facade();
  const bridge::LinenLayout layout = call.layout();
  if (has_any_state(call.self, layout)) {
    append_remedy(error, missing_variable_text(call, layout));
  } else if (error.matches(f.collection_not_found_error)) {
    const std::string text =
        py::utf8(error.value()) + " " + call.where() + " has no variables yet. " + kInitRemedy;
    // Without the constructors of Flax's classes, which make the message themselves.
    const nb::object raised =
        f.not_initialized_error.attr("__new__")(f.not_initialized_error, text);
    nb::object cause = nb::borrow(error.value());
    PyException_SetCause(raised.ptr(), cause.release().ptr());
    PyErr_SetObject(f.not_initialized_error.ptr(), raised.ptr());
    throw nb::python_error();
  } else {
    append_remedy(error, kInitRemedy);
  }
  throw;  // NOLINT: the python_error being handled by the caller
}

// In kInitializeAgain a ToLinen in `init` calls the module for another time. The first call has
// made the variables, and this one runs on them, as a Linen submodule would.
enum class Mode : std::uint8_t { kCall, kInitialize, kInitializeAgain };

Mode mode_of(nb::handle self) {
  if (!upstream::is_initializing_pytree(self)) return Mode::kCall;
  if (!bridge::has_variables(self)) return Mode::kInitialize;
  upstream::ContextQueries::note_outer();
  const nb::object linen = upstream::innermost_linen_module();
  return !linen.is_none() && upstream::is_initializing(linen) ? Mode::kInitializeAgain
                                                              : Mode::kInitialize;
}

nb::object initialize_linen(const Call& call, nb::handle rngs, bridge::UsageOfCall& usage) {
  const upstream::Names& n = upstream::names();
  nb::dict given = py::copy_dict(call.kwargs);
  given[n.method] = call.options.method;
  const nb::tuple positional = py::prepended(rngs, call.args);
  const nb::object result = [&] {
    const bridge::UsageOfCall::ClockPause pause(usage);
    return py::call(py::get(call.linen_module, n.init_with_output), positional, given);
  }();
  bridge::set_variables(call.self, result[1], call.where() + ".lazy_init");
  return result[0];
}

// The error of a call that changes a collection which the current trace may not change.
void explain_closed_over(nb::python_error& error, const Call& call) {
  append_remedy(error, call.where() +
                           ": the module is closed over by a transformation, in which its "
                           "variables may not change. Pass it as an argument of the "
                           "transformation, or call it in its eval mode or with mutable=False.");
}

nb::object run_linen(const Call& call, nb::handle rngs, bool initializes_again,
                     bridge::UsageOfCall& usage) {
  const bridge::GivenVariables given =
      bridge::given_variables_of(call.self, [&] { return call.layout(); }, call.where());
  nb::object filter = call.options.mutable_;
  bool is_named = !filter.is_none();
  if (!is_named) {
    upstream::ContextQueries::note_outer();
    filter = upstream::enclosing_mutable();
    is_named = filter.is_valid();
    if (!is_named) filter = given.default_filter;
  }
  nb::object result;
  try {
    const bridge::UsageOfCall::ClockPause pause(usage);
    result = bridge::apply_linen(
        call.linen_module, {given.variables, rngs, call.options.method, filter, initializes_again},
        call.args, call.kwargs);
  } catch (nb::python_error& error) {
    const bool is_closed_over = error.matches(upstream::facade().modify_variable_error) &&
                                !is_named && !given.not_writable.empty();
    if (is_closed_over) explain_closed_over(error, call);
    throw;
  }
  if (filter.ptr() == Py_False) return result;
  const nb::object updates = result[1];
  std::optional<bridge::LinenLayout> layout;
  const auto may_create = [&](nb::handle collection, const graph::Path& path) {
    if (is_named) return true;
    if (!layout) layout = call.layout();
    const bridge::LinenLayout::Entry* entry = layout->find(path);
    return entry == nullptr || !entry->collection.equal(collection);
  };
  bridge::write_updates(call.self, given.variables, updates, may_create, call.where());
  return result[0];
}

// Adds to the error of a call what to do about it, and rethrows it. `keys` are those of the call,
// made of `source`.
[[noreturn]] void rethrow_explained(nb::python_error& error, const Call& call, const nb::dict& keys,
                                    nb::handle source, Mode mode) {
  const upstream::Facade& f = upstream::facade();
  if (mode == Mode::kCall) {
    if (error.matches(f.param_not_found_error) || error.matches(f.collection_not_found_error) ||
        error.matches(f.variable_not_found_error)) {
      rethrow_not_found(error, call);
    }
    if (error.matches(f.invalid_rng_error) && bridge::has_held_back_keys(keys, source)) {
      append_remedy(error, bridge::kHeldBackRemedy);
    }
  } else if (error.matches(f.invalid_rng_error) && nb::len(keys) == 0) {
    append_remedy(error, "Give ToNNX random keys: ToNNX(module, rngs=nnx.Rngs(0)).");
  }
  throw;  // NOLINT: the python_error being handled by the caller
}

}  // namespace

namespace bridge::to_nnx {

void initialize(nb::handle self, nb::handle linen_module, nb::handle rngs) {
  require_linen_module(linen_module);
  const nb::object kept = kept_rngs(rngs);
  py::set(self, upstream::names().to_nnx_module, linen_module);
  py::set(self, upstream::names().to_nnx_rngs, kept);
}

nb::dict variables(nb::handle self) {
  return nnx_attrs_to_linen_vars(bridge::state_attributes(self));
}

nb::object call(nb::handle self, const nb::tuple& args, const nb::dict& kwargs,
                const ToNNXCall& options) {
  const upstream::Names& n = upstream::names();
  const nb::dict attributes = py::instance_dict(self);
  const nb::object linen_module = py::dict_get(attributes, n.to_nnx_module);
  if (!linen_module.is_valid()) {
    raise_value_error({"ToNNX.__call__", "a ToNNX whose __init__ has run", py::describe(self),
                       "Call super().__init__(module, rngs=rngs) in the subclass."});
  }
  bridge::UsageOfCall usage("ToNNX", linen_module);
  nb::object source =
      options.rngs.is_none() ? py::dict_get(attributes, n.to_nnx_rngs) : options.rngs;
  if (!source.is_valid()) source = nb::none();
  const Mode mode = mode_of(self);
  if (mode == Mode::kInitialize) usage.initializes();
  // A failure puts back the RNG counts, which advance before Linen runs. Of the module it puts back
  // the attributes alone, since Variables are written at the end, all or none.
  graph::Snapshot before;
  before.add_attributes(self);
  before.add_graph(source);
  return graph::all_or_nothing(before, [&] {
    nb::dict keys;
    const Call call{self, linen_module, args, kwargs, options};
    try {
      keys = mode == Mode::kCall ? bridge::lazy_keys(source) : bridge::initial_keys(source);
      if (mode == Mode::kInitialize) return initialize_linen(call, keys, usage);
      return run_linen(call, keys, mode == Mode::kInitializeAgain, usage);
    } catch (nb::python_error& error) {
      rethrow_explained(error, call, keys, source, mode);
    }
  });
}

nb::object attribute(nb::handle self, nb::handle name) {
  const upstream::Names& n = upstream::names();
  const nb::object linen_module = py::dict_get(py::instance_dict(self), n.to_nnx_module);
  std::string remedy;
  if (linen_module.is_valid()) {
    const nb::object method = py::class_attribute(linen_module.type(), name);
    if (method.is_valid() && PyCallable_Check(method.ptr()) != 0) {
      // The __call__ of the class, since `self` may have a captured output under that name.
      const nb::object call = py::class_attribute(self.type(), n.call_dunder);
      nb::object bound = upstream::facade().partial(call.attr("__get__")(self, self.type()),
                                                    nb::arg("method") = method);
      py::set(bound, n.self_dunder, self);
      return bound;
    }
    const std::string linen_class = class_of(linen_module);
    if (py::get_optional(linen_module, name).is_valid()) {
      remedy = "'; " + linen_class + " has it: write " + py::utf8(n.to_nnx_module) + "." +
               py::utf8(name);
    } else {
      remedy = "' (nor has " + linen_class + ")";
    }
    if (!bridge::has_variables(self)) {
      remedy += "; if it is a variable of the Linen module, call lazy_init first";
    }
  } else {
    remedy = "'";
  }
  PyErr_SetString(PyExc_AttributeError, ("'" + py::type_name(self.type()) +
                                         "' object has no attribute '" + py::utf8(name) + remedy)
                                            .c_str());
  throw nb::python_error();
}

nb::object attribute_value(nb::handle value) {
  const upstream::Facade& f = upstream::facade();
  const bool is_kept =
      !f.has_data.is_valid() || nb::cast<bool>(f.is_data(value)) || nb::len(f.has_data(value)) == 0;
  if (is_kept) return nb::borrow(value);
  return upstream::marked_as_data(value);
}

void release_rngs(nb::handle self) { py::set(self, upstream::names().to_nnx_rngs, nb::none()); }

}  // namespace bridge::to_nnx

nb::handle not_initialized_error() { return upstream::facade().not_initialized_error; }

ToNNX::ToNNX(nb::handle linen_module, nb::handle rngs)
    : object_(py::python_class("ToNNX")(linen_module, nb::arg("rngs") = rngs)) {}

ToNNX ToNNX::from(nb::handle object) {
  if (!py::is_instance(object, py::python_class("ToNNX"))) {
    raise_type_error({"ToNNX::from", "an nnx_wrappers.ToNNX",
                      "an instance of " + py::full_name(object.type()),
                      "Construct ToNNX(linen_module, rngs) of a Linen module."});
  }
  ToNNX wrapper;
  wrapper.object_ = nb::borrow(object);
  return wrapper;
}

ToNNX& ToNNX::lazy_init(const nb::tuple& args, const nb::dict& kwargs) {
  nnx_wrappers::lazy_init(object_, args, kwargs);
  return *this;
}

nb::object ToNNX::call(const nb::tuple& args, const nb::dict& kwargs,
                       const ToNNXCall& options) const {
  return bridge::to_nnx::call(object_, args, kwargs, options);
}

nb::dict ToNNX::variables() const { return bridge::to_nnx::variables(object_); }

}  // namespace nnx_wrappers
