#include "bridge/plan/repeated_calls.h"

#include <algorithm>
#include <utility>

#include "bridge/plan/constructor_call.h"
#include "bridge/plan/module_capture.h"
#include "graph/static_key.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/interned.h"
#include "upstream/leaked.h"
#include "upstream/linen.h"
#include "upstream/origin.h"
#include "upstream/program.h"
#include "upstream/trace_slice.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// Counts the constructors that run inside of each other.
class Depth {
 public:
  explicit Depth(size_t& depth) : depth_(depth) { ++depth_; }
  ~Depth() { --depth_; }
  Depth(const Depth&) = delete;
  Depth& operator=(const Depth&) = delete;

 private:
  size_t& depth_;
};

// True for streams, which are quicker made than compared.
bool is_made_by_each_call(nb::handle type) {
  const upstream::Facade& f = upstream::facade();
  return py::is_subtype(type, f.rng_stream) || py::is_subtype(type, f.rngs);
}

}  // namespace

struct RepeatedCalls::Call {
  nb::object type;
  nb::tuple args;
  nb::dict kwargs;
  std::optional<RngsState> rngs;
  nb::object key;

  // The arguments but for the streams.
  std::vector<nb::object> kept_arguments() const {
    std::vector<nb::object> kept;
    const auto add = [&](const nb::object& value) {
      if (!RngsState::is_rngs(value)) kept.push_back(value);
    };
    for (const nb::object& value : py::elements(args)) add(value);
    for (const auto& item : py::dict_items(kwargs)) add(item.second);
    return kept;
  }

  // What the code may see of the values of the streams.
  nb::tuple constants() const { return rngs ? rngs->constants() : nb::tuple(); }

  // The nodes of the streams, which the module may keep.
  std::vector<nb::object> nodes() const { return rngs ? rngs->nodes() : std::vector<nb::object>(); }

  // The values that the streams have now.
  nb::tuple values() const { return rngs ? rngs->values() : nb::tuple(); }
};

struct RepeatedCalls::Traced {
  // Values of the trace.
  struct Equations {
    upstream::TraceSlice slice;
    nb::tuple inputs;                 // of the streams
    std::vector<nb::object> outputs;  // of the module, then what streams were changed to
  };

  ModuleCapture captured;
  std::vector<bool> changes_stream;    // by the values of the streams
  std::optional<Equations> equations;  // until they are needed
  std::shared_ptr<const upstream::EquationList> repeatable;

  // False if the equations depend on more than the streams.
  bool prepare() {
    if (equations) {
      repeatable = equations->slice.repeatable(equations->inputs, equations->outputs).equations;
      equations.reset();
    }
    return repeatable != nullptr;
  }

  nb::object made_for(const Call& call) const {
    const nb::tuple inputs = call.values();
    const std::vector<nb::object> made = repeatable->run(py::elements(inputs));
    size_t next = 0;
    nb::object module = captured.instantiate_from(made, next, call.nodes());
    std::vector<nb::object> after = py::elements(inputs);
    for (size_t i = 0; i < after.size(); ++i) {
      if (changes_stream[i]) after[i] = made.at(next++);
    }
    if (call.rngs) call.rngs->store(after);
    return module;
  }
};

RepeatedCalls::RepeatedCalls(nb::handle outermost, graph::GuardRecorder& recorder)
    : outermost_(outermost),
      trace_(upstream::staging_trace()),
      recorder_(recorder),
      watch_([this](nb::handle type, const nb::tuple& args, const nb::dict& kwargs) {
        return answer(type, args, kwargs);
      }) {}

RepeatedCalls::~RepeatedCalls() = default;

std::unique_ptr<RepeatedCalls> RepeatedCalls::watch(const ConstructorCall& call,
                                                    graph::GuardRecorder& recorder) {
  if (call.interceptors.is_valid() || !upstream::has(upstream::Feature::kRepeatedCalls))
    return nullptr;
  return std::make_unique<RepeatedCalls>(call.nnx_class, recorder);
}

// Adds the key of an argument that code cannot change, or only so that a guard sees it: what the
// guards compare, by identity; numbers, texts and tuples of such; what belongs to Flax, JAX or the
// standard library. Returns false for every other.
bool RepeatedCalls::append_key(nb::list& key, nb::handle value) const {
  PyObject* ptr = value.ptr();
  const auto append = [&](const nb::object& part) {
    if (part.is_valid()) key.append(part);
    return part.is_valid();
  };
  if (graph::is_atom(ptr)) return append(graph::static_key(value));
  if (PyTuple_CheckExact(ptr) != 0) {
    key.append(nb::make_tuple("tuple", PyTuple_GET_SIZE(ptr)));
    return std::ranges::all_of(py::borrowed_elements(value),
                               [&](PyObject* element) { return append_key(key, element); });
  }
  if (recorder_.is_guarded(value)) return append(nb::make_tuple("object", py::id(value)));
  const nb::handle type = value.type();
  if (py::is_class(value))
    return !upstream::is_user_class(value) && append(graph::static_key(value));
  if (PyCFunction_Check(ptr) != 0) return append(graph::static_key(value));
  if (upstream::wraps_functions(type)) {
    const nb::object wrapped = py::get_optional(value, nb::str("__wrapped__"));
    return wrapped.is_valid() && append(graph::static_key(value)) && append_key(key, wrapped);
  }
  if (upstream::is_user_function(value)) return false;
  if (PyFunction_Check(ptr) != 0) {
    nb::list contents;
    for (const nb::object& cell : py::cells_of(value)) {
      const nb::object held = py::cell_contents(cell);
      if (!held.is_valid() || !append_key(contents, held)) return false;
    }
    return append(graph::static_key(value));
  }
  const bool is_of_library =
      upstream::is_opaque_class(type) ||
      (py::is_subtype(type, upstream::facade().enum_type) && !upstream::is_user_class(type));
  return is_of_library && append(graph::static_key(value, graph::Unknown::kByIdentity));
}

std::optional<RepeatedCalls::Call> RepeatedCalls::read(nb::handle type, const nb::tuple& args,
                                                       const nb::dict& kwargs) const {
  Call call{nb::borrow(type), args, kwargs, std::nullopt, {}};
  nb::list key;
  const auto add = [&](nb::handle value) {
    if (!RngsState::is_rngs(value)) return append_key(key, value);
    if (!call.rngs) {
      call.rngs = RngsState::of(value);
      if (!call.rngs) return false;
      key.append(call.rngs->key());
    }
    key.append(upstream::sentinel());
    return call.rngs->nodes().front().is(value);
  };
  if (!add(type)) return std::nullopt;
  key.append(nb::len(args));
  for (const nb::object& value : py::elements(args)) {
    if (!add(value)) return std::nullopt;
  }
  for (const auto& [name, value] : py::dict_items(kwargs)) {
    key.append(name);
    if (!add(value)) return std::nullopt;
  }
  if (!append_settings(key)) return std::nullopt;
  key.append(graph::trace_context_key());
  key.append(nb::bool_(upstream::NoLinenModule::is_innermost()));
  call.key = nb::tuple(key);
  return call;
}

nb::object RepeatedCalls::answer(nb::handle type, const nb::tuple& args, const nb::dict& kwargs) {
  const auto construct = [&] {
    const Depth deeper(depth_);
    return upstream::ConstructorWatch::construct(type, args, kwargs);
  };
  const bool may_repeat = upstream::is_staging() && !is_made_by_each_call(type);
  const bool is_outermost = depth_ == 0 && type.is(outermost_);
  const std::optional<Call> call =
      may_repeat && !is_outermost ? read(type, args, kwargs) : std::nullopt;
  recorder_.inspect_cached_results();
  if (!call || !recorder_.is_unchanged_so_far()) return construct();
  const nb::tuple key = nb::make_tuple(call->key, call->constants());
  const nb::object found = py::dict_get(positions_, key);
  const size_t position = found.is_valid() ? nb::cast<size_t>(found) : known_.size();
  if (!found.is_valid()) {
    known_.emplace_back();
    positions_[key] = position;
  }
  upstream::TraceSlice slice;
  const nb::tuple before = call->values();
  const size_t linen_modules = recorder_.linen_modules_made();
  if (known_[position].is_refused || !slice.accepts(before)) return construct();
  if (const std::shared_ptr<Traced> known = known_[position].traced) {
    if (known->prepare()) return known->made_for(*call);
    known_[position].is_refused = true;
    return construct();
  }
  nb::object module = construct();
  slice.end();
  if (recorder_.linen_modules_made() == linen_modules)
    known_[position].traced = traced(*call, module, slice, before);
  known_[position].is_refused = known_[position].traced == nullptr;
  return module;
}

// What has made `module`, if it left no effect behind, so that an equal call will not either, and
// if the module can be made from a template. Null if each call has to run.
std::shared_ptr<RepeatedCalls::Traced> RepeatedCalls::traced(const Call& call, nb::handle module,
                                                             const upstream::TraceSlice& slice,
                                                             const nb::tuple& before) const {
  if (!recorder_.is_unchanged_so_far() || recorder_.has_drawn_from_numpy()) return nullptr;
  const std::optional<Call> after = read(call.type, call.args, call.kwargs);
  if (!after || !py::equal(after->key, call.key)) return nullptr;
  if (call.rngs && !(after->rngs && call.rngs->has_nodes_of(*after->rngs))) return nullptr;
  auto made = std::make_shared<Traced>();
  made->equations = Traced::Equations{slice, before, {}};
  std::vector<nb::object>& outputs = made->equations->outputs;
  try {
    const nb::tuple computed =
        made->captured.copy(module, call.kept_arguments(), recorder_, call.nodes());
    outputs = py::elements(computed);
    size_t next = 0;
    for (const nb::object& value : py::elements(call.values())) {
      made->changes_stream.push_back(!value.is(before[next++]));
      if (made->changes_stream.back()) outputs.push_back(value);
    }
    // Values of an inner trace are not kept until it is over.
    return slice.is_of(trace_) || made->prepare() ? made : nullptr;
  } catch (const graph::Refusal&) {
    return nullptr;
  }
}

}  // namespace nnx_wrappers::bridge
