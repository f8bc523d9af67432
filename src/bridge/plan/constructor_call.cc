#include "bridge/plan/constructor_call.h"

#include <algorithm>

#include "bridge/plan/augment_check.h"
#include "bridge/plan/rngs_state.h"
#include "graph/remembered_key.h"
#include "graph/static_key.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/node.h"
#include "upstream/qwix.h"
#include "upstream/scope.h"
#include "upstream/trace_context.h"
#include "upstream/variable.h"

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

// Checks the fields at the call, since Linen's dataclasses accept any value.
void check_fields(nb::handle args, const ConstructorCall& call, nb::handle metadata_fn) {
  const bool is_iterable = PySequence_Check(args.ptr()) != 0 || nb::hasattr(args, "__iter__");
  check(is_iterable, "args", "a sequence", args,
        "Write args=(...) for the positional arguments of the class.");
  check(py::is_mapping(call.kwargs), "kwargs", "a mapping", call.kwargs,
        "Write kwargs={...} for the keyword arguments of the class.");
  check_optional_function(call.augment_fn, "nnx_module_augment_fn",
                          "Pass a function (module, name) -> module.");
  check_optional_function(metadata_fn, "metadata_fn", "Pass a function of a Variable.");
}

}  // namespace

size_t ConstructorCall::keys() const {
  return static_cast<size_t>(std::ranges::count_if(
      streams, [](const Stream& stream) { return stream.key_type.is_valid(); }));
}

ConstructorCall read_constructor_call(nb::handle to_linen, nb::handle scope, bool initializing) {
  const upstream::Names& n = upstream::names();
  ConstructorCall call;
  call.interceptors = upstream::qwix_interceptors();
  call.nnx_class = py::get(to_linen, n.nnx_class);
  const nb::object args = py::get(to_linen, n.args);
  call.kwargs = py::get(to_linen, n.kwargs);
  call.augment_fn = py::get(to_linen, n.nnx_module_augment_fn);
  check_fields(args, call, py::get(to_linen, n.metadata_fn));
  call.args = nb::tuple(args);
  call.name = py::get(to_linen, n.name);
  call.takes_rngs = !py::truthy(py::get(to_linen, n.skip_rng));
  if (!call.takes_rngs) return call;
  bool has_default = false;
  bool has_params = false;
  for (const nb::object& name : py::elements(upstream::undrawn_rngs(scope))) {
    has_default = has_default || name.equal(n.default_);
    has_params = has_params || name.equal(n.params);
    call.streams.push_back(
        {name, upstream::key_type(scope, name), {}, upstream::key_varies(scope, name)});
  }
  call.falls_back = initializing && has_params && !has_default;
  if (!initializing && !has_default) {
    call.streams.push_back({nb::borrow(n.default_), {}, nb::int_(0)});
  }
  return call;
}

nb::object make_rngs(const ConstructorCall& call, const nb::dict& streams) {
  if (!call.takes_rngs) return {};
  const nb::object rngs_class =
      call.falls_back ? linen_rngs_class() : nb::borrow(upstream::facade().rngs);
  return py::call(rngs_class, nb::tuple(), streams);
}

nb::object augmented(const ConstructorCall& call, const nb::object& module) {
  return call.augment_fn(module, call.name);
}

nb::object construct(const ConstructorCall& call, const nb::object& rngs, AugmentCheck* check) {
  nb::dict kwargs = py::to_dict(call.kwargs);
  if (rngs.is_valid()) kwargs[upstream::names().rngs] = rngs;
  nb::object module = py::call(call.nnx_class, call.args, kwargs);
  if (!call.augment_fn.is_none())
    module = check != nullptr ? check->run(module) : augmented(call, module);
  const upstream::NodeKind kind = upstream::kind_of(module);
  if (kind == upstream::NodeKind::kLeaf || kind == upstream::NodeKind::kVariable ||
      kind == upstream::NodeKind::kArrayRef || module.is_none()) {
    raise_type_error({"ToLinen, " + py::describe(call.nnx_class),
                      "an NNX module from the call of nnx_class (and nnx_module_augment_fn)",
                      py::describe(module), "Return the module."});
  }
  return module;
}

namespace {

// The keyword arguments without `rngs` if the wrapper replaces them.
nb::object given_keywords(const ConstructorCall& call) {
  if (!call.takes_rngs || !py::contains(call.kwargs, upstream::names().rngs)) return call.kwargs;
  nb::dict others = py::to_dict(call.kwargs);
  py::remove(others, upstream::names().rngs);
  return others;
}

// The constructor of a class if it is written in Python, or an invalid object.
nb::object python_constructor(nb::handle nnx_class) {
  if (!py::is_class(nnx_class)) return {};
  const nb::handle init =
      _PyType_Lookup(py::as_type(nnx_class), upstream::names().init_dunder.ptr());
  const bool is_python = init.is_valid() && PyFunction_Check(init.ptr()) != 0;
  return is_python ? nb::borrow(init) : nb::object();
}

// The names of its positional parameters.
std::vector<std::string> parameter_names(nb::handle nnx_class) {
  std::vector<std::string> names;
  const nb::object init = python_constructor(nnx_class);
  if (!init.is_valid()) return names;
  const nb::object code = py::get(init, upstream::names().code_dunder);
  const auto count = nb::cast<size_t>(code.attr("co_argcount"));
  for (const nb::object& name : py::elements(code.attr("co_varnames"))) {
    if (names.size() == count) break;
    names.push_back(py::utf8(name));
  }
  if (!names.empty()) names.erase(names.begin());  // self
  return names;
}

}  // namespace

bool append_settings(nb::list& key) {
  const upstream::Facade& f = upstream::facade();
  const nb::object rules = graph::remembered_key(f.logical_axis_rules());
  if (!rules.is_valid()) return false;
  key.append(rules);
  key.append(py::get(f.jax_config, nb::str("jax_default_prng_impl")));
  key.append(upstream::creation_settings());
  return true;
}

CallKey key_of(const ConstructorCall& call) {
  nb::list key;
  std::string reason;
  const auto add = [&](nb::handle value, const char* what) {
    nb::object part = graph::static_key(value, graph::Unknown::kByIdentity);
    if (!part.is_valid()) {
      reason = std::string(what) + " that cannot be compared";
      return false;
    }
    key.append(part);
    return true;
  };
  if (!add(call.nnx_class, "a class") || !add(call.args, "arguments") ||
      !add(given_keywords(call), "keyword arguments") ||
      !add(call.augment_fn, "an augment function")) {
    return {{}, reason};
  }
  if (!append_settings(key)) return {{}, "logical axis rules that cannot be compared"};
  key.append(nb::bool_(call.takes_rngs));
  key.append(nb::bool_(call.falls_back));
  for (const Stream& stream : call.streams) {
    if (stream.varies) return {{}, "keys that vary over the axes of a jax.shard_map"};
    key.append(stream.name);
    key.append(stream.key_type.is_valid() ? stream.key_type : stream.seed);
  }
  key.append(graph::common_context_key());
  key.append(upstream::concrete_mesh());
  if (call.interceptors.is_valid()) key.append(upstream::interceptor_ids(call.interceptors));
  return {nb::tuple(key), ""};
}

void add_roots(const ConstructorCall& call, graph::GuardRecorder& recorder) {
  const auto add = [&](nb::handle given, const std::string& path) {
    for (const nb::object& root : graph::known_by_identity(given)) {
      recorder.add_root(root, py::is_class(root) ? py::type_name(root) : path);
    }
  };
  add(call.nnx_class, py::full_name(call.nnx_class));
  add(call.augment_fn, "nnx_module_augment_fn");
  const std::vector<std::string> names = parameter_names(call.nnx_class);
  size_t position = 0;
  for (const nb::object& argument : py::elements(call.args)) {
    const bool is_named = position < names.size();
    add(argument, is_named ? names[position] : "args[" + std::to_string(position) + "]");
    ++position;
  }
  for (const auto& [name, value] : py::mapping_items(given_keywords(call))) {
    add(value, py::utf8(name));
  }
}

}  // namespace nnx_wrappers::bridge
