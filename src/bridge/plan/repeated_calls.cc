#include "bridge/plan/repeated_calls.h"

#include <algorithm>
#include <utility>

#include "bridge/plan/constructor_call.h"
#include "bridge/plan/module_capture.h"
#include "bridge/plan/single_trace.h"
#include "graph/static_key.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/interned.h"
#include "upstream/leaked.h"
#include "upstream/origin.h"
#include "upstream/program.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

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

  // The arguments with another nnx.Rngs in the place of the one that was given.
  std::pair<nb::tuple, nb::dict> with_rngs(nb::handle other) const {
    if (!rngs) return {args, kwargs};
    const auto replaced = [&](const nb::object& value) {
      return value.is(rngs->nodes().front()) ? nb::borrow(other) : value;
    };
    nb::list positional;
    for (const nb::object& value : py::elements(args)) positional.append(replaced(value));
    nb::dict named;
    for (const auto& [name, value] : py::dict_items(kwargs)) named[name] = replaced(value);
    return {nb::tuple(positional), named};
  }
};

struct RepeatedCalls::Traced {
  ModuleCapture captured;
  nb::object function;               // from the values of the streams to all outputs
  std::vector<bool> changes_stream;  // by the values of the streams; those outputs come last

  nb::object made_for(const Call& call) const {
    const nb::tuple before = call.rngs ? call.rngs->values() : nb::tuple();
    const std::vector<nb::object> outputs = upstream::evaluate(function, before);
    std::vector<nb::object> values;
    values.reserve(captured.slots().size());
    size_t next = 0;
    for (size_t i = 0; i < captured.slots().size(); ++i) {
      values.push_back(captured.is_computed(i) ? captured.value_from(outputs, next, i)
                                               : captured.constant(i));
    }
    nb::object module = captured.instantiate(values);
    std::vector<nb::object> after = py::elements(before);
    for (size_t i = 0; i < after.size(); ++i) {
      if (changes_stream[i]) after[i] = outputs.at(next++);
    }
    if (call.rngs) call.rngs->store(after);
    return module;
  }
};

RepeatedCalls::RepeatedCalls(const graph::GuardRecorder& recorder)
    : recorder_(recorder),
      watch_([this](nb::handle type, const nb::tuple& args, const nb::dict& kwargs) {
        return answer(type, args, kwargs);
      }) {}

RepeatedCalls::~RepeatedCalls() = default;

std::unique_ptr<RepeatedCalls> RepeatedCalls::watch(bool qwix_intercepts,
                                                    const graph::GuardRecorder& recorder) {
  if (qwix_intercepts || !upstream::has(upstream::Feature::kRepeatedCalls)) return nullptr;
  return std::make_unique<RepeatedCalls>(recorder);
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
  if (PyFunction_Check(ptr) != 0) {
    const nb::handle globals = PyFunction_GetGlobals(ptr);
    if (upstream::origin_of_globals(globals) == upstream::Origin::kUser) return false;
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
  call.key = nb::tuple(key);
  return call;
}

nb::object RepeatedCalls::answer(nb::handle type, const nb::tuple& args, const nb::dict& kwargs) {
  const auto construct = [&] {
    ++constructions_;
    return upstream::ConstructorWatch::construct(type, args, kwargs);
  };
  const bool may_repeat = upstream::is_staging() && !is_made_by_each_call(type);
  const std::optional<Call> call = may_repeat ? read(type, args, kwargs) : std::nullopt;
  if (!call || !recorder_.is_unchanged_so_far()) return construct();
  const nb::object found = py::dict_get(positions_, call->key);
  const size_t position = found.is_valid() ? nb::cast<size_t>(found) : known_.size();
  if (!found.is_valid()) {
    known_.emplace_back();
    positions_[call->key] = position;
  }
  if (known_[position].is_refused) return construct();
  if (!known_[position].is_verified) {
    const size_t before = constructions_;
    nb::object module = construct();
    constexpr size_t kParts = 3;  // itself, and two that are more than a stream or a list
    const bool has_parts = constructions_ - before >= kParts;
    const bool is_due = ++known_[position].runs >= (has_parts ? 1 : kRunsOfLayers);
    if (is_due) {
      known_[position].is_verified = may_be_repeated(*call, module);
      known_[position].is_refused = !known_[position].is_verified;
    }
    return module;
  }
  if (known_[position].traced == nullptr) {
    std::shared_ptr<const Traced> traced = traced_alone(*call);
    known_[position].is_refused = traced == nullptr;
    if (traced == nullptr) return construct();
    known_[position].traced = std::move(traced);
  }
  const std::shared_ptr<const Traced> traced = known_[position].traced;
  return traced->made_for(*call);
}

// True if the call that has made `module` left no effect behind, so that an equal one will not
// either, and if the module can be made from a template.
bool RepeatedCalls::may_be_repeated(const Call& call, nb::handle module) const {
  if (!recorder_.is_unchanged_so_far()) return false;
  const std::optional<Call> after = read(call.type, call.args, call.kwargs);
  if (!after || !py::equal(after->key, call.key)) return false;
  if (call.rngs && !(after->rngs && call.rngs->has_nodes_of(*after->rngs))) return false;
  const std::vector<nb::object> foreign =
      call.rngs ? call.rngs->nodes() : std::vector<nb::object>();
  return ModuleCapture::can_take_apart(module, {call.args, call.kwargs}, recorder_, foreign);
}

// Null if the module cannot be made in another way than by its constructor.
std::shared_ptr<const RepeatedCalls::Traced> RepeatedCalls::traced_alone(const Call& call) const {
  auto made = std::make_shared<Traced>();
  bool is_refused = false;
  const SingleTrace single_trace;
  const auto trace = [&,
                      is_pending = single_trace.is_pending](const nb::args& values) -> nb::object {
    SingleTrace::begin(*is_pending);
    nb::object rngs = call.rngs ? call.rngs->made_with(values) : nb::object();
    const auto [args, kwargs] = call.with_rngs(rngs);
    const std::optional<RngsState> before =
        call.rngs ? RngsState::of(rngs) : std::optional<RngsState>();
    is_refused = call.rngs.has_value() != before.has_value();
    if (is_refused) return nb::tuple();
    const nb::object module = upstream::ConstructorWatch::construct(call.type, args, kwargs);
    const std::vector<nb::object> foreign = before ? before->nodes() : std::vector<nb::object>();
    try {
      nb::list outputs(
          made->captured.take_apart(module, {call.args, call.kwargs}, recorder_, foreign));
      if (!before) return outputs;
      const std::optional<RngsState> after = RngsState::of(rngs);
      is_refused =
          !after || !after->has_nodes_of(*before) || !py::equal(after->key(), before->key());
      if (is_refused) return nb::tuple();
      for (const nb::object& value : py::elements(after->values())) {
        const bool is_changed = !value.is(values[made->changes_stream.size()]);
        made->changes_stream.push_back(is_changed);
        if (is_changed) outputs.append(value);
      }
      return outputs;
    } catch (const graph::Refusal&) {
      is_refused = true;
      return nb::tuple();
    }
  };
  try {
    const nb::tuple values = call.rngs ? call.rngs->values() : nb::tuple();
    const nb::object program = upstream::trace_program(nb::cpp_function(trace), values);
    if (is_refused || !upstream::reason_not_reusable(program).empty()) return nullptr;
    made->function = upstream::staged(program);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    return nullptr;
  }
  return made;
}

}  // namespace nnx_wrappers::bridge
