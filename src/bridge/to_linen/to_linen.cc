#include "nnx_wrappers/to_linen.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bridge/convert/given_variables.h"
#include "bridge/plan/construction_plan.h"
#include "bridge/plan/constructor_call.h"
#include "bridge/plan/planned.h"
#include "bridge/report/usage.h"
#include "bridge/to_linen/clone_arguments.h"
#include "bridge/to_linen/load_variables.h"
#include "bridge/to_linen/python_methods.h"
#include "bridge/to_linen/qwix_paths.h"
#include "bridge/to_linen/store_variables.h"
#include "bridge/to_nnx/attributes.h"
#include "bridge/to_nnx/initializing.h"
#include "graph/walk.h"
#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/rngs.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"
#include "py/python_class.h"
#include "upstream/dialect/wrapper.h"
#include "upstream/facade.h"
#include "upstream/leaked.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/node.h"
#include "upstream/scope.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

using bridge::ConstructorCall;
using bridge::UsageOfCall;

// Throws NotImplementedError where Flax's ToLinen is another program, which this one cannot
// replace.
void require_to_linen() {
  if (upstream::has_to_linen()) return;
  PyErr_SetString(PyExc_NotImplementedError, ("ToLinen: " + upstream::why_no_to_linen()).c_str());
  throw nb::python_error();
}

// Runs the constructor with its initializers, as Flax's bridge does. Replaces the arguments of the
// call by clones.
nb::object run_constructor(nb::handle self, ConstructorCall& call, bool initializing,
                           bridge::RecordedInit* recorded = nullptr) {
  bridge::Arguments cloned = bridge::clone_arguments({call.args, py::to_dict(call.kwargs)});
  call.args = std::move(cloned.args);
  call.kwargs = std::move(cloned.kwargs);
  nb::object rngs;
  const nb::dict keys = call.takes_rngs ? linen_rngs_dict(self, !initializing) : nb::dict();
  if (recorded != nullptr) recorded->begin(keys);
  if (call.takes_rngs) rngs = bridge::make_rngs(call, keys);
  return bridge::construct(call, rngs, recorded == nullptr ? nullptr : &recorded->augment());
}

// The module of an `apply`, made by its constructor.
nb::object module_by_constructor(nb::handle self, ConstructorCall& call) {
  nb::object module = run_constructor(self, call, false);
  // Read after the constructor has run, since it may add variables.
  graph::StateTree given = bridge::given_variables(py::get(self, upstream::names().variables));
  const std::vector<graph::Path> missing = bridge::missing_parameters(module, given);
  bridge::load_variables(self, module, given);
  bridge::warn_missing_parameters(missing);
  return module;
}

// The module of an `apply`, made by a plan; an invalid object if these variables cannot use it.
nb::object module_by_plan(nb::handle self, const ConstructorCall& call,
                          const bridge::Planned& planned) {
  const nb::object scope = py::get(self, upstream::names().scope);
  const nb::object variables = py::get(self, upstream::names().variables);
  bridge::ConstructionPlan::Made made = planned.plan->instantiate(call, scope, variables);
  if (!made.module.is_valid()) {
    graph::StateTree given = bridge::given_variables(variables);
    // In a trace that stages, each operation of the program becomes the equation that the
    // constructor would have made.
    const bool in_steps = planned.is_of_this_call || upstream::is_staging();
    made = planned.plan->instantiate(call, scope, given, in_steps);
    if (!made.module.is_valid()) return {};
    bridge::load_variables(self, made.module, given);
  }
  bridge::warn_missing_parameters(made.missing);
  return made.module;
}

// The module of an `apply`, with its variables.
nb::object module_for_apply(nb::handle self, ConstructorCall& call, UsageOfCall& usage) {
  const bridge::Planned planned = bridge::plan_for(call, usage);
  if (planned.plan != nullptr) {
    nb::object module = module_by_plan(self, call, planned);
    if (module.is_valid()) return module;
    usage.plan_rejected("floating-point values are not in the variables");
  } else {
    // Variables that contradict each other are refused before the constructor, user code, runs.
    bridge::given_variables(py::get(self, upstream::names().variables));
  }
  return module_by_constructor(self, call);
}

nb::object method_of(nb::handle module, nb::handle method) {
  const upstream::Names& n = upstream::names();
  nb::object found = method.is_none() ? nb::borrow(n.call_dunder) : nb::borrow(method);
  const std::string type = py::type_name(module.type());
  if (nb::isinstance<nb::str>(found)) {
    const std::string name = py::utf8(found);
    found = py::class_attribute(module.type(), found);
    if (!found.is_valid()) {
      raise_attribute_error({"ToLinen, " + type, "a method of the NNX class",
                             "'" + name + "', which " + type + " does not have",
                             "Define it, or choose another with nnx_method='name'."});
    }
    if (PyCallable_Check(found.ptr()) == 0) {
      raise_type_error({"ToLinen, " + type + "." + name, "a method (it must be a callable)",
                        py::describe(found), "Choose a method with nnx_method='name'."});
    }
    return found;
  }
  if (PyCallable_Check(found.ptr()) == 0) {
    raise_type_error({"ToLinen, " + type, "nnx_method as a name or a function (a callable)",
                      py::describe(found), "Choose a method with nnx_method='name'."});
  }
  return found;
}

nb::object run(nb::handle module, nb::handle nnx_method, const nb::tuple& args,
               const nb::dict& kwargs, UsageOfCall& usage) {
  const UsageOfCall::ClockPause pause(usage);
  if (nnx_method.is_none() && PyCallable_Check(module.ptr()) != 0) {
    return py::call(module, args, kwargs);
  }
  const nb::tuple positional = py::prepended(module, args);
  return py::call(method_of(module, nnx_method), positional, kwargs);
}

// Stores the state of the module. Calls `_update_variables` only if a subclass overrides it.
void update(nb::handle self, nb::handle module) {
  // Not owned, and only compared: owning it would keep the class alive beyond the end of Python.
  static constinit py::Once<const nb::handle> once;
  const nb::handle name = upstream::names().update_variables;
  const nb::handle base = once.get([&] {
    return nb::handle(py::get(py::python_class("ToLinen", "nnx_wrappers._to_linen"), name).ptr());
  });
  if (py::get(self.type(), name).is(base)) {
    bridge::to_linen::update_variables(self, module);
  } else {
    py::get(self, name)(module);
  }
}

struct UninitializedToNNX {
  graph::Path path;
  nb::object to_nnx;
};

// The ToNNX modules in the module that have no variables yet.
std::vector<UninitializedToNNX> uninitialized_to_nnx(nb::handle module) {
  std::vector<UninitializedToNNX> found;
  graph::WalkEvents events;
  events.on_node = [&](const graph::Path& path, nb::handle node, upstream::NodeKind) {
    if (bridge::is_to_nnx(node) && !bridge::has_variables(node)) {
      found.push_back({path, nb::borrow(node)});
    }
    return true;
  };
  graph::walk(module, events);
  return found;
}

bool is_inside_any(const graph::Path& path, const std::vector<UninitializedToNNX>& fresh) {
  return std::ranges::any_of(
      fresh, [&](const UninitializedToNNX& entry) { return graph::begins_with(path, entry.path); });
}

nb::object module_for_init(nb::handle self, ConstructorCall& call, UsageOfCall& usage) {
  const bridge::InitCall init(call, usage);
  if (init.plan() != nullptr) {
    nb::object module = init.plan()->initialize(call, py::get(self, upstream::names().scope));
    if (module.is_valid()) return module;
  }
  const ConstructorCall given = call;
  return init.run(given, [&](bridge::RecordedInit* recorded) {
    return run_constructor(self, call, true, recorded);
  });
}

// The variables are stored before the method runs, since the constructor of the NNX module has made
// them. Those of a ToNNX are stored after it, since its first call makes them.
nb::object initialize(nb::handle self, nb::handle nnx_method, const nb::tuple& args,
                      const nb::dict& kwargs) {
  ConstructorCall call =
      bridge::read_constructor_call(self, py::get(self, upstream::names().scope), true);
  UsageOfCall usage("ToLinen", call.nnx_class);
  usage.initializes();
  const nb::object module = module_for_init(self, call, usage);
  update(self, module);
  std::optional<bridge::QwixPaths> paths;
  if (call.interceptors.is_valid()) paths.emplace(module);
  const std::vector<UninitializedToNNX> fresh = uninitialized_to_nnx(module);
  if (fresh.empty()) return run(module, nnx_method, args, kwargs, usage);
  std::vector<nb::object> wrappers;
  wrappers.reserve(fresh.size());
  for (const UninitializedToNNX& entry : fresh) wrappers.push_back(entry.to_nnx);
  bridge::Initializing flags(module, std::move(wrappers));
  nb::object out = run(module, nnx_method, args, kwargs, usage);
  flags.finish();
  bridge::store_variables(self, module,
                          [&](const graph::Path& path) { return is_inside_any(path, fresh); });
  return out;
}

}  // namespace

namespace bridge::to_linen {

void check_class(nb::handle nnx_class) {
  require_to_linen();
  if (upstream::is_pytree(nnx_class)) {
    const std::string type = py::type_name(nnx_class.type());
    raise_type_error({"ToLinen", "an NNX class", py::describe(nnx_class),
                      "Write ToLinen(" + type + ", args=(...), kwargs={...}) or to_linen(" + type +
                          ", ...); Linen supplies rngs."});
  }
  const bool is_linen_class =
      py::is_class(nnx_class) && py::is_subtype(nnx_class, upstream::facade().linen_module);
  const bool is_linen = is_linen_class || upstream::is_linen_module(nnx_class);
  if (PyCallable_Check(nnx_class.ptr()) != 0 && !is_linen) return;
  const char* remedy = is_linen_class ? "Use it as it is: it makes Linen modules."
                       : is_linen     ? "It is a Linen module already."
                                      : "Pass a class like nnx.Linear.";
  raise_type_error({"ToLinen", "an NNX class, or a callable that makes an NNX module",
                    py::describe(nnx_class), remedy});
}

bool is_inert(nb::handle self, nb::handle name, nb::handle value) {
  return upstream::is_inert(value) && py::dict_get(py::instance_dict(self), name).is(value);
}

nb::object deep_clone(nb::handle self, nb::handle asked, const nb::dict& updates) {
  const upstream::Names& n = upstream::names();
  nb::object as_asked = nb::borrow(asked);
  if (asked.ptr() == Py_False) return as_asked;
  for (const auto& [name, value] : py::dict_items(updates)) {
    if (!name.equal(n.parent) && !upstream::is_inert(value)) return as_asked;
  }
  const nb::dict attributes = py::instance_dict(self);
  for (const auto& [name, field] : py::dict_items(py::get(self, n.dataclass_fields))) {
    if (name.equal(n.parent) || !py::truthy(py::get(field, n.init))) continue;
    const nb::object value = py::dict_get(attributes, name);
    if (!value.is_valid() || !upstream::is_inert(value)) return as_asked;
  }
  return nb::bool_(false);
}

nb::object call(nb::handle self, nb::handle nnx_method, const nb::tuple& args,
                const nb::dict& kwargs) {
  const upstream::Names& n = upstream::names();
  const nb::object scope = py::get(self, n.scope);
  if (upstream::is_initializing_scope(scope)) return initialize(self, nnx_method, args, kwargs);
  ConstructorCall call = bridge::read_constructor_call(self, scope, false);
  UsageOfCall usage("ToLinen", call.nnx_class);
  const nb::object module = module_for_apply(self, call, usage);
  std::optional<bridge::QwixPaths> paths;
  if (call.interceptors.is_valid()) paths.emplace(module);
  nb::object out = run(module, nnx_method, args, kwargs, usage);
  update(self, module);
  return out;
}

nb::object attribute(nb::handle self, nb::handle name) {
  const upstream::Names& n = upstream::names();
  // copy and pickle look for methods of the object itself, and while it has no fields yet.
  if (upstream::is_copy_protocol_name(name) || !py::contains(py::instance_dict(self), n.nnx_class))
    return {};
  const nb::object kwargs = py::get(self, n.kwargs);
  if (py::contains(kwargs, name)) return kwargs[name];
  const nb::object nnx_class = py::get(self, n.nnx_class);
  const nb::object method = py::is_class(nnx_class) ? py::class_attribute(nnx_class, name)
                                                    : py::get_optional(nnx_class, name);
  if (!method.is_valid() || PyCallable_Check(method.ptr()) == 0) return {};
  nb::object bound =
      upstream::facade().partial(py::get(self, n.call_dunder), nb::arg("nnx_method") = method);
  py::set(bound, n.self_dunder, self);
  return bound;
}

void update_variables(nb::handle self, nb::handle nnx_module) {
  // If no collection is mutable, nothing has to be collected.
  if (py::get(py::get(self, upstream::names().scope), upstream::names().mutable_).ptr() == Py_False)
    return;
  bridge::store_variables(self, nnx_module, [](const graph::Path&) { return true; });
}

nb::dict partial_fields(const nb::dict& fixed, const nb::dict& given) {
  const upstream::Names& n = upstream::names();
  nb::dict fields = py::copy_dict(fixed);
  for (const auto& [name, value] : py::dict_items(given)) {
    if (name.equal(n.kwargs)) continue;
    if (!value.is_none()) fields[name] = value;
  }
  nb::dict kwargs = py::to_dict(fixed[n.kwargs]);
  const nb::object more = py::dict_get(given, n.kwargs);
  if (more.is_valid() && !more.is_none()) {
    for (const auto& [name, value] : py::mapping_items(more)) kwargs[name] = value;
  }
  fields[n.kwargs] = upstream::facade().frozen_dict(kwargs);
  return fields;
}

nb::str class_name(nb::handle nnx_class) {
  require_to_linen();
  constexpr int kMaxChain = 100;  // a partial may hold itself
  nb::object named = nb::borrow(nnx_class);
  for (int step = 0; step < kMaxChain; ++step) {
    if (!py::is_instance(named, upstream::facade().partial)) break;
    named = py::get(named, upstream::names().func);
  }
  const nb::object name = py::get_optional(named, nb::str("__name__"));
  if (!name.is_valid()) {
    raise_type_error({"to_linen_class", "an NNX class, or a callable with a name",
                      py::describe(nnx_class), "Pass a class like nnx.Linear."});
  }
  return nb::str((py::utf8(name) + "ToLinen").c_str());
}

nb::object stream(nb::handle rngs, nb::handle name, nb::handle error_type) {
  const upstream::Names& n = upstream::names();
  const nb::dict streams = py::instance_dict(rngs);
  for (nb::handle candidate : {name, n.default_, n.params}) {
    nb::object found = py::dict_get(streams, candidate);
    if (found.is_valid()) return found;
  }
  const std::string text = "No RngStream named '" + py::utf8(name) + "' found in Rngs.";
  PyErr_SetString(error_type.ptr(), text.c_str());
  throw nb::python_error();
}

}  // namespace bridge::to_linen

ToLinen::ToLinen(nb::handle nnx_class, const nb::tuple& args, const nb::dict& kwargs,
                 const ToLinenOptions& options) {
  const upstream::Names& n = upstream::names();
  nb::dict fields;
  fields[n.args] = args;
  fields[n.kwargs] = upstream::facade().frozen_dict(kwargs);
  fields[n.skip_rng] = options.skip_rng;
  fields[n.nnx_module_augment_fn] = options.augment_fn;
  if (options.metadata_fn.is_valid()) fields[n.metadata_fn] = options.metadata_fn;
  if (!options.name.is_none()) fields[n.name] = options.name;
  object_ = py::call(py::python_class("ToLinen"), nb::make_tuple(nnx_class), fields);
}

ToLinen ToLinen::from(nb::handle object) {
  if (!py::is_instance(object, py::python_class("ToLinen"))) {
    raise_type_error({"ToLinen::from", "an nnx_wrappers.ToLinen",
                      "an instance of " + py::full_name(object.type()),
                      "Construct ToLinen(nnx_class, args, kwargs) of an NNX class."});
  }
  ToLinen wrapper;
  wrapper.object_ = nb::borrow(object);
  return wrapper;
}

nb::object ToLinen::init(nb::handle rngs, const nb::tuple& args, const nb::dict& kwargs) const {
  return py::call(py::get(object_, upstream::names().init), py::prepended(rngs, args), kwargs);
}

nb::tuple ToLinen::init_with_output(nb::handle rngs, const nb::tuple& args,
                                    const nb::dict& kwargs) const {
  const nb::tuple positional = py::prepended(rngs, args);
  return nb::tuple(
      py::call(py::get(object_, upstream::names().init_with_output), positional, kwargs));
}

nb::object ToLinen::apply(nb::handle variables, const nb::tuple& args,
                          const nb::dict& kwargs) const {
  const nb::tuple positional = py::prepended(variables, args);
  return py::call(py::get(object_, upstream::names().apply), positional, kwargs);
}

}  // namespace nnx_wrappers
