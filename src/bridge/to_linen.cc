#include "nnx_wrappers/to_linen.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bridge/clone_arguments.h"
#include "bridge/construction_plan.h"
#include "bridge/initializing.h"
#include "bridge/planned.h"
#include "bridge/qwix_paths.h"
#include "bridge/recipe.h"
#include "bridge/shells.h"
#include "bridge/to_linen_state.h"
#include "bridge/to_nnx_state.h"
#include "bridge/usage.h"
#include "flax/facade.h"
#include "flax/linen.h"
#include "flax/node.h"
#include "flax/scope.h"
#include "graph/walk.h"
#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/rngs.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

using bridge::Recipe;
using bridge::UsageOfCall;

nb::object make_rngs(nb::handle self, bool initializing) {
  const py::Names& n = py::names();
  const nb::dict keys = linen_rngs_dict(self, !initializing);
  const bool falls_back = initializing && keys.contains(n.params) && !keys.contains(n.default_);
  const nb::object rngs_class = falls_back ? bridge::shell("LinenRngs", "nnx_wrappers._rngs")
                                           : nb::borrow(flax::facade().rngs);
  return py::call(rngs_class, nb::tuple(), keys);
}

// As Flax's bridge does it: the constructor runs, initializers and all.
nb::object construct_live(nb::handle self, Recipe& recipe, bool initializing) {
  nb::dict kwargs = py::to_dict(recipe.kwargs);
  bridge::clone_arguments(recipe.args, kwargs);
  recipe.kwargs = std::move(kwargs);
  nb::object rngs;
  if (recipe.takes_rngs) rngs = make_rngs(self, initializing);
  return bridge::construct(recipe, rngs);
}

// The module of an apply, variables loaded.
nb::object made_module(nb::handle self, nb::handle scope, Recipe& recipe, UsageOfCall& usage) {
  const nb::object variables = py::get(self, py::names().variables);
  const bridge::Planned planned = bridge::plan_for(recipe, usage);
  const auto& plan = planned.plan;
  bridge::ConstructionPlan::Made made;
  if (plan != nullptr) made = plan->instantiate(recipe, scope, variables);
  if (!made.module.is_valid()) {
    graph::StateTree given = bridge::given_variables(variables);
    if (plan != nullptr) made = plan->instantiate(recipe, scope, given, planned.is_of_this_call);
    if (!made.module.is_valid()) {
      if (plan != nullptr) usage.plan_left_aside("floating-point values are not in the variables");
      made.module = construct_live(self, recipe, false);
      // Again: the plan has marked some as used, and the constructor may have added some.
      given = bridge::given_variables(py::get(self, py::names().variables));
      made.missing = bridge::missing_parameters(made.module, given);
    }
    bridge::load_variables(self, made.module, given);
    const bool may_change = py::get(scope, py::names().mutable_).ptr() != Py_False;
    if (may_change) bridge::refuse_texts_for_numbers(given);
  }
  bridge::warn_missing_parameters(made.missing);
  return made.module;
}

nb::object method_of(nb::handle module, nb::handle method) {
  const py::Names& n = py::names();
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
  const UsageOfCall::Away away(usage);
  if (nnx_method.is_none() && PyCallable_Check(module.ptr()) != 0) {
    return py::call(module, args, kwargs);
  }
  nb::list positional;
  positional.append(module);
  for (nb::handle arg : args) positional.append(arg);
  return py::call(method_of(module, nnx_method), nb::tuple(positional), kwargs);
}

// A subclass may have an `_update_variables` of its own.
void update(nb::handle self, nb::handle module) {
  // Borrowed, and compared only: who held it would keep the class beyond the end of Python.
  static constinit py::Once<const nb::handle> once;
  const nb::handle name = py::names().update_variables;
  const nb::handle base = once.get([&] {
    return nb::handle(py::get(bridge::shell("ToLinen", "nnx_wrappers._to_linen"), name).ptr());
  });
  if (py::get(self.type(), name).is(base)) {
    to_linen::update_variables(self, module);
  } else {
    py::get(self, name)(module);
  }
}

struct Fresh {
  graph::Path path;
  nb::object to_nnx;
};

// ToNNX modules that have made no variables yet.
std::vector<Fresh> fresh_to_nnx(nb::handle module) {
  std::vector<Fresh> found;
  graph::WalkEvents events;
  events.on_node = [&](const graph::Path& path, nb::handle node, flax::NodeKind) {
    if (bridge::is_to_nnx(node) && !bridge::has_variables(node)) {
      found.push_back({path, nb::borrow(node)});
    }
    return true;
  };
  graph::walk(module, events);
  return found;
}

bool lies_in(const graph::Path& path, const std::vector<Fresh>& fresh) {
  for (const Fresh& entry : fresh) {
    if (path.size() < entry.path.size()) continue;
    bool inside = true;
    for (size_t i = 0; inside && i < entry.path.size(); ++i) {
      inside = path[i].equal(entry.path[i]);
    }
    if (inside) return true;
  }
  return false;
}

// Variables are stored before the method runs, as an NNX module has them from its
// constructor; only a ToNNX has them from its first call, so those follow after it.
nb::object initialize(nb::handle self, nb::handle nnx_method, const nb::tuple& args,
                      const nb::dict& kwargs) {
  Recipe recipe = bridge::read_recipe(self, py::get(self, py::names().scope), true);
  UsageOfCall usage("ToLinen", recipe.nnx_class);
  usage.initializes();
  const nb::object module = construct_live(self, recipe, true);
  update(self, module);
  std::optional<bridge::QwixPaths> paths;
  if (recipe.interceptors.is_valid()) paths.emplace(module);
  const std::vector<Fresh> fresh = fresh_to_nnx(module);
  if (fresh.empty()) return run(module, nnx_method, args, kwargs, usage);
  std::vector<nb::object> wrappers;
  wrappers.reserve(fresh.size());
  for (const Fresh& entry : fresh) wrappers.push_back(entry.to_nnx);
  bridge::Initializing flags(module, std::move(wrappers));
  nb::object out = run(module, nnx_method, args, kwargs, usage);
  flags.finish();
  bridge::store_variables(self, module,
                          [&](const graph::Path& path) { return lies_in(path, fresh); });
  return out;
}

}  // namespace

namespace to_linen {

void check_class(nb::handle nnx_class) {
  if (flax::is_pytree(nnx_class)) {
    const std::string type = py::type_name(nnx_class.type());
    raise_type_error({"ToLinen", "an NNX class", py::describe(nnx_class),
                      "Write ToLinen(" + type + ", args=(...), kwargs={...}) or to_linen(" + type +
                          ", ...); Linen supplies rngs."});
  }
  const bool is_linen_class =
      py::is_class(nnx_class) && py::is_subtype(nnx_class, flax::facade().linen_module);
  const bool is_linen = is_linen_class || flax::is_linen_module(nnx_class);
  if (PyCallable_Check(nnx_class.ptr()) != 0 && !is_linen) return;
  const char* remedy = is_linen_class ? "Use it as it is: it makes Linen modules."
                       : is_linen     ? "It is a Linen module already."
                                      : "Pass a class like nnx.Linear.";
  raise_type_error({"ToLinen", "an NNX class, or a callable that makes an NNX module",
                    py::describe(nnx_class), remedy});
}

bool is_inert(nb::handle self, nb::handle name, nb::handle value) {
  return flax::is_inert(value) && py::dict_get(py::instance_dict(self), name).is(value);
}

nb::object deep_clone(nb::handle self, nb::handle asked, const nb::dict& updates) {
  const py::Names& n = py::names();
  nb::object as_asked = nb::borrow(asked);
  if (asked.ptr() == Py_False) return as_asked;
  for (const auto& [name, value] : py::dict_items(updates)) {
    if (!name.equal(n.parent) && !flax::is_inert(value)) return as_asked;
  }
  const nb::dict attributes = py::instance_dict(self);
  for (const auto& [name, field] : py::dict_items(py::get(self, n.dataclass_fields))) {
    if (name.equal(n.parent) || !nb::cast<bool>(nb::bool_(py::get(field, n.init)))) continue;
    const nb::object value = py::dict_get(attributes, name);
    if (!value.is_valid() || !flax::is_inert(value)) return as_asked;
  }
  return nb::bool_(false);
}

nb::object call(nb::handle self, nb::handle nnx_method, const nb::tuple& args,
                const nb::dict& kwargs) {
  const py::Names& n = py::names();
  const nb::object scope = py::get(self, n.scope);
  if (flax::is_initializing_scope(scope)) return initialize(self, nnx_method, args, kwargs);
  Recipe recipe = bridge::read_recipe(self, scope, false);
  UsageOfCall usage("ToLinen", recipe.nnx_class);
  const nb::object module = made_module(self, scope, recipe, usage);
  std::optional<bridge::QwixPaths> paths;
  if (recipe.interceptors.is_valid()) paths.emplace(module);
  nb::object out = run(module, nnx_method, args, kwargs, usage);
  update(self, module);
  return out;
}

nb::object attribute(nb::handle self, nb::handle name) {
  const py::Names& n = py::names();
  // copy and pickle ask for methods of the object itself, and ask objects that have no fields yet.
  if (flax::is_for_copies(name) || !py::contains(py::instance_dict(self), n.nnx_class)) return {};
  const nb::object kwargs = py::get(self, n.kwargs);
  if (py::contains(kwargs, name)) return kwargs[name];
  const nb::object nnx_class = py::get(self, n.nnx_class);
  const nb::object method = py::is_class(nnx_class) ? py::class_attribute(nnx_class, name)
                                                    : py::get_optional(nnx_class, name);
  if (!method.is_valid() || PyCallable_Check(method.ptr()) == 0) return {};
  nb::object bound =
      flax::facade().partial(py::get(self, n.call_dunder), nb::arg("nnx_method") = method);
  py::set(bound, n.self_dunder, self);
  return bound;
}

void update_variables(nb::handle self, nb::handle nnx_module) {
  // Nothing can be stored: nothing is collected.
  if (py::get(py::get(self, py::names().scope), py::names().mutable_).ptr() == Py_False) return;
  bridge::store_variables(self, nnx_module, [](const graph::Path&) { return true; });
}

nb::dict partial_fields(const nb::dict& fixed, const nb::dict& given) {
  const py::Names& n = py::names();
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
  fields[n.kwargs] = flax::facade().frozen_dict(kwargs);
  return fields;
}

nb::str class_name(nb::handle nnx_class) {
  constexpr int kLongestChain = 100;  // a partial may be one of itself
  nb::object named = nb::borrow(nnx_class);
  for (int step = 0; step < kLongestChain; ++step) {
    if (!py::is_instance(named, flax::facade().partial)) break;
    named = py::get(named, py::names().func);
  }
  const nb::object name = py::get_optional(named, nb::str("__name__"));
  if (!name.is_valid()) {
    raise_type_error({"to_linen_class", "an NNX class, or a callable with a name",
                      py::describe(nnx_class), "Pass a class like nnx.Linear."});
  }
  return nb::str((py::utf8(name) + "ToLinen").c_str());
}

nb::object stream(nb::handle rngs, nb::handle name, nb::handle error_type) {
  const py::Names& n = py::names();
  const nb::dict streams = py::instance_dict(rngs);
  for (nb::handle candidate : {name, n.default_, n.params}) {
    nb::object found = py::dict_get(streams, candidate);
    if (found.is_valid()) return found;
  }
  const std::string text = "No RngStream named '" + py::utf8(name) + "' found in Rngs.";
  PyErr_SetString(error_type.ptr(), text.c_str());
  throw nb::python_error();
}

}  // namespace to_linen

ToLinen::ToLinen(nb::handle nnx_class, const nb::tuple& args, const nb::dict& kwargs,
                 const ToLinenOptions& options) {
  const py::Names& n = py::names();
  nb::dict fields;
  fields[n.args] = args;
  fields[n.kwargs] = flax::facade().frozen_dict(kwargs);
  fields[n.skip_rng] = options.skip_rng;
  fields[n.nnx_module_augment_fn] = options.augment_fn;
  if (options.metadata_fn.is_valid()) fields[n.metadata_fn] = options.metadata_fn;
  if (!options.name.is_none()) fields[n.name] = options.name;
  object_ = py::call(bridge::shell("ToLinen"), nb::make_tuple(nnx_class), fields);
}

nb::tuple ToLinen::init_with_output(nb::handle rngs, const nb::tuple& args,
                                    const nb::dict& kwargs) const {
  nb::list positional;
  positional.append(rngs);
  for (nb::handle arg : args) positional.append(arg);
  return nb::tuple(
      py::call(py::get(object_, py::names().init_with_output), nb::tuple(positional), kwargs));
}

nb::object ToLinen::apply(nb::handle variables, const nb::tuple& args,
                          const nb::dict& kwargs) const {
  nb::list positional;
  positional.append(variables);
  for (nb::handle arg : args) positional.append(arg);
  return py::call(py::get(object_, py::names().apply), nb::tuple(positional), kwargs);
}

}  // namespace nnx_wrappers
