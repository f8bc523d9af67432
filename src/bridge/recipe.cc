#include "bridge/recipe.h"

#include "flax/facade.h"
#include "flax/linen.h"
#include "flax/node.h"
#include "flax/qwix.h"
#include "flax/scope.h"
#include "flax/static_key.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

void check(bool is_right, const char* field, const char* expected, nb::handle got,
           const char* remedy) {
  if (is_right) return;
  raise_type_error({std::string("ToLinen, ") + field, expected, py::describe(got), remedy});
}

void check_optional_function(nb::handle value, const char* field, const char* remedy) {
  check(value.is_none() || PyCallable_Check(value.ptr()) != 0, field, "a function or None", value,
        remedy);
}

// What Linen, whose dataclasses take anything, leaves to the first use.
void check_fields(nb::handle args, const Recipe& recipe, nb::handle metadata_fn) {
  const bool is_iterable = PySequence_Check(args.ptr()) != 0 || nb::hasattr(args, "__iter__");
  check(is_iterable, "args", "a sequence", args,
        "Write args=(...) for the positional arguments of the class.");
  check(py::is_mapping(recipe.kwargs), "kwargs", "a mapping", recipe.kwargs,
        "Write kwargs={...} for the keyword arguments of the class.");
  check_optional_function(recipe.augment_fn, "nnx_module_augment_fn",
                          "Pass a function (module, name) -> module.");
  check_optional_function(metadata_fn, "metadata_fn", "Pass a function of a Variable.");
}

}  // namespace

Recipe read_recipe(nb::handle to_linen, nb::handle scope, bool initializing) {
  const py::Names& n = py::names();
  Recipe recipe;
  recipe.interceptors = flax::qwix_interceptors();
  recipe.nnx_class = py::get(to_linen, n.nnx_class);
  const nb::object args = py::get(to_linen, n.args);
  recipe.kwargs = py::get(to_linen, n.kwargs);
  recipe.augment_fn = py::get(to_linen, n.nnx_module_augment_fn);
  check_fields(args, recipe, py::get(to_linen, n.metadata_fn));
  recipe.args = nb::tuple(args);
  recipe.name = py::get(to_linen, n.name);
  recipe.takes_rngs = !nb::cast<bool>(nb::bool_(py::get(to_linen, n.skip_rng)));
  if (!recipe.takes_rngs) return recipe;
  bool has_default = false;
  for (const nb::object& name : py::elements(flax::undrawn_rngs(scope))) {
    has_default = has_default || name.equal(n.default_);
    recipe.streams.push_back({name, flax::key_type(scope, name), {}});
  }
  if (!initializing && !has_default) {
    recipe.streams.push_back({nb::borrow(n.default_), {}, nb::int_(0)});
  }
  return recipe;
}

nb::object construct(const Recipe& recipe, const nb::object& rngs) {
  nb::dict kwargs = py::to_dict(recipe.kwargs);
  if (rngs.is_valid()) kwargs[py::names().rngs] = rngs;
  nb::object module = py::call(recipe.nnx_class, recipe.args, kwargs);
  if (!recipe.augment_fn.is_none()) module = recipe.augment_fn(module, recipe.name);
  const flax::NodeKind kind = flax::kind_of(module);
  if (kind == flax::NodeKind::kLeaf || kind == flax::NodeKind::kVariable ||
      kind == flax::NodeKind::kArrayRef || module.is_none()) {
    raise_type_error({"ToLinen, " + py::describe(recipe.nnx_class),
                      "an NNX module from the call of nnx_class (and nnx_module_augment_fn)",
                      py::describe(module), "Return the module."});
  }
  return module;
}

namespace {

// Without what the wrapper gives in its place.
nb::object given_keywords(const Recipe& recipe) {
  if (!recipe.takes_rngs || !py::contains(recipe.kwargs, py::names().rngs)) return recipe.kwargs;
  nb::dict others = py::to_dict(recipe.kwargs);
  py::remove(others, py::names().rngs);
  return others;
}

// The names of the positional parameters of the constructor, as far as they are easily known.
std::vector<std::string> parameter_names(nb::handle nnx_class) {
  std::vector<std::string> names;
  if (!py::is_class(nnx_class)) return names;
  const nb::handle init = _PyType_Lookup(reinterpret_cast<PyTypeObject*>(nnx_class.ptr()),
                                         py::names().init_dunder.ptr());
  if (!init.is_valid() || PyFunction_Check(init.ptr()) == 0) return names;
  const nb::object code = py::get(init, py::names().code_dunder);
  const auto count = nb::cast<size_t>(code.attr("co_argcount"));
  for (const nb::object& name : py::elements(code.attr("co_varnames"))) {
    if (names.size() == count) break;
    names.push_back(py::utf8(name));
  }
  if (!names.empty()) names.erase(names.begin());  // self
  return names;
}

}  // namespace

nb::object recipe_key(const Recipe& recipe, std::string& reason) {
  const flax::Facade& f = flax::facade();
  nb::list key;
  const auto add = [&](nb::handle value, const char* what) {
    nb::object part = flax::static_key(value, flax::Unknown::kByIdentity);
    if (!part.is_valid()) {
      reason = std::string(what) + " that cannot be compared";
      return false;
    }
    key.append(part);
    return true;
  };
  if (!add(recipe.nnx_class, "a class") || !add(recipe.args, "arguments") ||
      !add(given_keywords(recipe), "keyword arguments") ||
      !add(recipe.augment_fn, "an augment function") ||
      !add(f.logical_axis_rules(), "logical axis rules")) {
    return {};
  }
  // An augment function may do something else for each name.
  if (!recipe.augment_fn.is_none()) key.append(recipe.name);
  key.append(nb::bool_(recipe.takes_rngs));
  for (const Stream& stream : recipe.streams) {
    key.append(stream.name);
    key.append(stream.key_type.is_valid() ? stream.key_type : stream.seed);
  }
  key.append(flax::trace_context_key());
  if (recipe.interceptors.is_valid()) key.append(flax::interceptor_ids(recipe.interceptors));
  key.append(py::get(f.jax_config, nb::str("jax_default_prng_impl")));
  key.append(f.using_eager_sharding());
  const nb::object defaults = f.var_defaults();
  key.append(
      nb::make_tuple(py::get(defaults, py::names().hijax), py::get(defaults, py::names().ref)));
  return nb::tuple(key);
}

void add_roots(const Recipe& recipe, graph::GuardRecorder& recorder) {
  const auto add = [&](nb::handle given, const std::string& path) {
    for (const nb::object& root : flax::known_by_identity(given)) {
      recorder.add_root(root, py::is_class(root) ? py::type_name(root) : path);
    }
  };
  add(recipe.nnx_class, py::full_name(recipe.nnx_class));
  add(recipe.augment_fn, "nnx_module_augment_fn");
  const std::vector<std::string> names = parameter_names(recipe.nnx_class);
  size_t position = 0;
  for (const nb::object& argument : py::elements(recipe.args)) {
    const bool is_named = position < names.size();
    add(argument, is_named ? names[position] : "args[" + std::to_string(position) + "]");
    ++position;
  }
  for (const auto& [name, value] : py::mapping_items(given_keywords(recipe))) {
    add(value, py::utf8(name));
  }
}

}  // namespace nnx_wrappers::bridge
