#include "bridge/plan/construction_plan.h"

#include <memory>
#include <utility>

#include "bridge/convert/given_variables.h"
#include "bridge/plan/context_queries.h"
#include "bridge/to_nnx/attributes.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/identity_set.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/program.h"
#include "upstream/scope.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The objects that the caller gave. If the constructor keeps one of them, all modules of the plan
// share it. The attributes of an argument count as given too, as in `self.mesh = config.mesh`; of
// containers, closures and partials, which are keyed by their parts, the parts are given.
class GivenObjects {
 public:
  void add(nb::handle object) {
    const py::RecursionGuard guard(" while reading the arguments of an NNX class");
    if (!seen_.insert(object)) return;  // a mapping may hold itself
    if (PyTuple_Check(object.ptr()) || PyList_Check(object.ptr())) {
      for (const nb::object& element : py::elements(object)) add(element);
    } else if (py::is_mapping(object)) {
      for (const auto& item : py::mapping_items(object)) add(item.second);
    } else if (object.type().is(upstream::facade().partial)) {
      for (const char* part : {"func", "args", "keywords"}) add(py::get(object, nb::str(part)));
    } else if (PyMethod_Check(object.ptr())) {
      for (const char* part : {"__func__", "__self__"}) add(py::get(object, nb::str(part)));
    } else if (PyFunction_Check(object.ptr()) && !py::cells_of(object).empty()) {
      for (const char* part : {"__defaults__", "__kwdefaults__", "__dict__"})
        add(py::get(object, nb::str(part)));
      for (const nb::object& cell : py::cells_of(object)) {
        const nb::object contents = py::cell_contents(cell);
        if (contents.is_valid()) add(contents);
      }
    } else {
      objects_.push_back(nb::borrow(object));
      const nb::object attributes = py::get_optional(object, nb::str("__dict__"));
      if (!py::is_class(object) && attributes.is_valid() && PyDict_CheckExact(attributes.ptr())) {
        for (auto& item : py::dict_items(attributes)) objects_.push_back(item.second);
      }
    }
  }

  const std::vector<nb::object>& objects() const { return objects_; }

 private:
  std::vector<nb::object> objects_;
  py::IdentitySet seen_;
};

// The function that JAX traces refers to local variables of `build`. JAX may keep it, so this flag
// tells whether it may still be called: once, and before `build` returns.
struct SingleTrace {
  std::shared_ptr<bool> is_pending = std::make_shared<bool>(true);
  SingleTrace() = default;
  ~SingleTrace() { *is_pending = false; }
  SingleTrace(const SingleTrace&) = delete;
  SingleTrace& operator=(const SingleTrace&) = delete;
};

// True for an unbound Linen module inside a ToNNX. It runs in scopes that the ToNNX makes, so all
// modules of the plan may share it.
bool is_inner_linen_module(nb::handle owner, nb::handle name, nb::handle value) {
  return name.equal(upstream::names().to_nnx_module) && is_to_nnx(owner) &&
         upstream::is_linen_module(value) && py::get(value, upstream::names().scope).is_none();
}

// A Captured whose destructor empties the captured modules: they are in reference cycles, which
// would keep the tracers of the trace alive.
struct DissolvedCapture : graph::Captured {
  DissolvedCapture() = default;
  ~DissolvedCapture() {
    values.clear();
    for (const nb::object& pytree : pytrees) PyDict_Clear(py::instance_dict(pytree).ptr());
  }
  DissolvedCapture(const DissolvedCapture&) = delete;
  DissolvedCapture& operator=(const DissolvedCapture&) = delete;
};

nb::tuple select(const std::vector<nb::object>& keys, const std::vector<bool>& used) {
  nb::list chosen;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (used[i]) chosen.append(keys[i]);
  }
  return nb::tuple(chosen);
}

bool is_integer_or_key(nb::handle aval) {
  return !nb::cast<bool>(
      upstream::facade().issubdtype(py::get(aval, nb::str("dtype")), upstream::facade().inexact));
}

// The inputs of the trace: an abstract key for each stream that has keys.
nb::tuple abstract_keys(const ConstructorCall& call) {
  nb::list keys;
  for (const Stream& stream : call.streams) {
    if (!stream.key_type.is_valid()) continue;
    keys.append(upstream::facade().shape_dtype_struct(stream.key_type[0], stream.key_type[1]));
  }
  return nb::tuple(keys);
}

// The nnx.Rngs for a constructor, with these keys; an invalid object if it takes none.
nb::object rngs_from(const ConstructorCall& call, const nb::args& keys) {
  if (!call.takes_rngs) return {};
  nb::dict streams;
  size_t next = 0;
  for (const Stream& stream : call.streams) {
    streams[stream.name] = stream.key_type.is_valid() ? nb::object(keys[next++]) : stream.seed;
  }
  return py::call(upstream::facade().rngs, nb::tuple(), streams);
}

}  // namespace

nb::tuple ConstructionPlan::capture(nb::handle module, const ConstructorCall& call,
                                    const graph::GuardRecorder& recorder) {
  GivenObjects given;
  given.add(call.args);
  given.add(call.kwargs);
  // Modules of the plan may share an object that existed before the constructor ran: a guard
  // compares it.
  const auto may_share = [&](nb::handle owner, nb::handle name, nb::handle value) {
    return recorder.is_guarded(value) ||
           (owner.is_valid() && is_inner_linen_module(owner, name, value));
  };
  DissolvedCapture captured;
  template_ = graph::Template::capture(module, given.objects(), may_share, captured);
  nb::list outputs;
  for (size_t i = 0; i < captured.values.size(); ++i) {
    first_output_.push_back(nb::len(outputs));
    trees_.emplace_back();
    if (template_.slots()[i].constant.is_valid()) continue;
    const nb::object flat = upstream::facade().tree_flatten(captured.values[i]);
    for (const nb::object& leaf : py::elements(flat[0])) outputs.append(leaf);
    trees_.back() = flat[1];
  }
  first_output_.push_back(nb::len(outputs));
  return nb::tuple(outputs);
}

void ConstructionPlan::complete() {
  prepare_closure_values();
  for (const graph::Slot& slot : template_.slots()) {
    const bool is_state = slot.type.is_valid() && !slot.is_in_closure;
    collections_.push_back(is_state ? upstream::collection_of(slot.type) : nb::object());
  }
  layout_ = std::make_unique<const VariableLayout>(template_.slots(), collections_);
  for (const nb::object& aval : upstream::output_avals(program_)) {
    is_exact_.push_back(is_integer_or_key(aval));
  }
}

ConstructionPlan::Built ConstructionPlan::build(const ConstructorCall& call) {
  std::unique_ptr<ConstructionPlan> plan(new ConstructionPlan());
  std::string reason;
  graph::Dependencies dependencies;
  graph::GuardRecorder recorder;
  add_roots(call, recorder);
  const SingleTrace single_trace;
  const auto trace = [&, is_pending = single_trace.is_pending](const nb::args& keys) -> nb::object {
    if (!std::exchange(*is_pending, false)) {
      throw InternalError("the trace of a constructor was run again");
    }
    const nb::object rngs = rngs_from(call, keys);
    recorder.start();
    const nb::object module = construct(call, rngs);
    dependencies = recorder.finish();
    try {
      return plan->capture(module, call, recorder);
    } catch (const graph::Refusal& refusal) {
      reason = refusal.what();
      return nb::tuple();
    }
  };
  const ContextQueries queries;
  try {
    // Qwix asks for the current Linen module to decide what it does to an operation of the
    // constructor. It would find an enclosing one here, so it finds an object with which it fails.
    const upstream::NoLinenModule outside(call.interceptors.is_valid() ? nb::object(nb::bool_(true))
                                                                       : nb::none());
    plan->program_ = upstream::trace_program(nb::cpp_function(trace), abstract_keys(call));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    reason = "a constructor that cannot be traced (" + py::type_name(error.type()) + ")";
  }
  if (reason.empty()) reason = upstream::reason_not_reusable(plan->program_);
  if (reason.empty() && queries.asked()) reason = "a constructor that asks about Linen's context";
  if (!reason.empty()) return {nullptr, {nullptr, reason, false}};
  plan->complete();
  return {std::move(plan), std::move(dependencies)};
}

void ConstructionPlan::prepare_closure_values() {
  const auto& slots = template_.slots();
  std::vector<bool> needed(first_output_.back(), false);
  bool any = false;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!slots[i].is_in_closure || slots[i].constant.is_valid()) continue;
    for (size_t output = first_output_[i]; output < first_output_[i + 1]; ++output)
      needed[output] = any = true;
  }
  if (!any) return;
  closure_part_ = uncompiled_part(needed);
}

// The values are computed operation by operation in the current trace, so that they have the same
// bits as those that the constructor would give to the closures.
void ConstructionPlan::add_closure_values(const std::vector<nb::object>& keys,
                                          std::vector<nb::object>& values) const {
  if (!closure_part_) return;
  const auto& slots = template_.slots();
  const std::vector<nb::object> outputs =
      upstream::evaluate(closure_part_->function, select(keys, closure_part_->used_keys));
  size_t next = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].is_in_closure && !slots[i].constant.is_valid())
      values[i] = value_from(outputs, next, i);
  }
}

nb::object ConstructionPlan::value_from(const std::vector<nb::object>& outputs, size_t& next,
                                        size_t slot) const {
  nb::list leaves;
  for (size_t output = first_output_[slot]; output < first_output_[slot + 1]; ++output)
    leaves.append(outputs.at(next++));
  return trees_[slot].attr("unflatten")(leaves);
}

ConstructionPlan::Part ConstructionPlan::uncompiled_part(const std::vector<bool>& needed) const {
  upstream::Pruned pruned = upstream::prune(program_, needed);
  return {upstream::as_function(pruned.program), std::move(pruned.used_inputs), {}};
}

std::shared_ptr<const ConstructionPlan::Part> ConstructionPlan::part_for(
    const std::vector<bool>& needed) const {
  const auto known = parts_.find(needed);
  if (known != parts_.end()) return known->second;
  Part part;
  const upstream::Pruned pruned = upstream::prune(program_, needed);
  part.used_keys = pruned.used_inputs;
  bool uses_keys = false;
  for (const bool used : part.used_keys) uses_keys = uses_keys || used;
  const nb::object function = upstream::as_function(pruned.program);
  if (!uses_keys) {
    part.constants = upstream::evaluate_concretely(function);
  } else {
    part.function = upstream::jitted(function);
  }
  // Forgotten parts die after the new one is inserted, since other threads may run meanwhile.
  const auto dying = parts_.size() < kMaxParts ? decltype(parts_)() : std::exchange(parts_, {});
  const auto made = std::make_shared<const Part>(std::move(part));
  parts_.insert_or_assign(needed, made);
  return made;
}

std::vector<nb::object> ConstructionPlan::draw_keys(const ConstructorCall& call, nb::handle scope,
                                                    const Part& part) const {
  std::vector<nb::object> keys;
  for (const Stream& stream : call.streams) {
    if (!stream.key_type.is_valid()) continue;
    const size_t input = keys.size();
    const bool used =
        part.used_keys.at(input) || (closure_part_ && closure_part_->used_keys.at(input));
    if (!used) upstream::skip_key(scope, stream.name);
    keys.push_back(used ? upstream::draw_key(scope, stream.name) : nb::object());
  }
  return keys;
}

ConstructionPlan::Made ConstructionPlan::instantiate(const ConstructorCall& call, nb::handle scope,
                                                     nb::handle variables) const {
  std::optional<std::vector<nb::object>> values = layout_->take(variables);
  if (!values) return {};
  Taken taken{*std::move(values), {}};
  for (size_t i = 0; i < taken.values.size(); ++i) {
    if (!taken.values[i].is_valid()) {
      if (is_parameter(i)) taken.missing.push_back(template_.slots()[i].path);
    } else if (!has_structure_of(i, taken.values[i])) {
      return {};
    }
  }
  return finish(call, scope, std::move(taken), false);
}

bool ConstructionPlan::is_parameter(size_t slot) const {
  return collections_[slot].is_valid() && collections_[slot].equal(upstream::names().params);
}

bool ConstructionPlan::has_structure_of(size_t slot, nb::handle value) const {
  if (!py::is_list_or_tuple(value)) return true;
  const upstream::Facade& f = upstream::facade();
  const nb::object& constant = template_.slots()[slot].constant;
  const nb::object expected =
      constant.is_valid() ? nb::object(f.tree_flatten(constant)[1]) : trees_[slot];
  return !expected.is_valid() || nb::object(f.tree_flatten(value)[1]).equal(expected);
}

ConstructionPlan::Made ConstructionPlan::instantiate(const ConstructorCall& call, nb::handle scope,
                                                     graph::StateTree& given, bool in_steps) const {
  const auto& slots = template_.slots();
  Taken taken;
  taken.values.reserve(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    TakenLeaf leaf;
    if (!slots[i].is_in_closure) {
      leaf = take_leaf(given, slots[i].path, collections_[i],
                       [&](nb::handle value) { return has_structure_of(i, value); });
    }
    if (!leaf.is_given && is_parameter(i)) taken.missing.push_back(slots[i].path);
    taken.values.push_back(std::move(leaf.value));
  }
  return finish(call, scope, std::move(taken), in_steps);
}

ConstructionPlan::Made ConstructionPlan::finish(const ConstructorCall& call, nb::handle scope,
                                                Taken taken, bool in_steps) const {
  std::vector<nb::object>& values = taken.values;
  const auto& slots = template_.slots();
  std::vector<bool> needed(is_exact_.size(), false);
  for (size_t i = 0; i < slots.size(); ++i) {
    if (values[i].is_valid()) continue;
    if (slots[i].constant.is_valid()) {
      values[i] =
          slots[i].is_shared ? slots[i].constant : upstream::copied_value(slots[i].constant);
      continue;
    }
    if (slots[i].is_in_closure) continue;
    for (size_t output = first_output_[i]; output < first_output_[i + 1]; ++output) {
      if (!is_exact_[output] && !in_steps) return {};
      needed[output] = true;
    }
  }
  const std::shared_ptr<const Part> part =
      in_steps ? std::make_shared<const Part>(uncompiled_part(needed)) : part_for(needed);
  const std::vector<nb::object> keys = draw_keys(call, scope, *part);
  add_closure_values(keys, values);
  const std::vector<nb::object> outputs =
      part->constants ? *part->constants
                      : upstream::evaluate(part->function, select(keys, part->used_keys));
  size_t next = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!values[i].is_valid()) values[i] = value_from(outputs, next, i);
  }
  return {template_.instantiate(values), std::move(taken.missing)};
}

}  // namespace nnx_wrappers::bridge
