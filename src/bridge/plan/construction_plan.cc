#include "bridge/plan/construction_plan.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "bridge/convert/given_variables.h"
#include "bridge/plan/augment_check.h"
#include "bridge/plan/repeated_calls.h"
#include "bridge/plan/rngs_state.h"
#include "bridge/plan/single_trace.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/equations.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/program.h"
#include "upstream/scope.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

bool is_integer_or_key(nb::handle aval) {
  return !nb::cast<bool>(
      upstream::facade().issubdtype(py::get(aval, nb::str("dtype")), upstream::facade().inexact));
}

// The inputs of the trace: an abstract key for each stream that has keys, and a count for each
// stream. Counts are zero in truth. As inputs they tell the first of equal constructor calls from
// a constant zero, so that the next ones can repeat it with other counts.
nb::tuple abstract_inputs(const ConstructorCall& call) {
  const upstream::Facade& f = upstream::facade();
  nb::list inputs;
  for (const Stream& stream : call.streams) {
    if (stream.key_type.is_valid())
      inputs.append(f.shape_dtype_struct(stream.key_type[0], stream.key_type[1]));
  }
  for (size_t i = 0; i < call.streams.size(); ++i)
    inputs.append(f.shape_dtype_struct(nb::tuple(), f.count_dtype));
  return nb::tuple(inputs);
}

// The nnx.Rngs for a constructor, with these keys and counts.
nb::object rngs_from(const ConstructorCall& call, const nb::args& inputs) {
  nb::dict streams;
  size_t next = 0;
  for (const Stream& stream : call.streams) {
    streams[stream.name] = stream.key_type.is_valid() ? nb::object(inputs[next++]) : stream.seed;
  }
  nb::object rngs = make_rngs(call, streams);
  const std::optional<RngsState> state =
      rngs.is_valid() && RngsState::is_rngs(rngs) ? RngsState::of(rngs) : std::nullopt;
  if (!state) return rngs;
  const std::vector<nb::object> counts = state->counts();
  for (size_t i = 0; i < std::min(counts.size(), call.streams.size()); ++i)
    upstream::store_value(counts[i], inputs[next + i]);
  return rngs;
}

}  // namespace

void ConstructionPlan::complete() {
  moves_linen_modules_ = captured_->moves_linen_modules();
  prepare_closure_values();
  for (const graph::Slot& slot : captured_->slots()) {
    const bool is_state = slot.type.is_valid() && !slot.is_in_closure;
    collections_.push_back(is_state ? upstream::collection_of(slot.type) : nb::object());
  }
  layout_ = std::make_unique<const VariableLayout>(captured_->slots(), collections_);
  for (const nb::object& aval : upstream::output_avals(program_)) {
    is_exact_.push_back(is_integer_or_key(aval));
  }
  arrays_ = captured_->arrays();
  for (const nb::object& constant : upstream::constants(program_)) {
    if (upstream::is_jax_array(constant)) arrays_.push_back(constant);
  }
}

bool ConstructionPlan::has_deleted_arrays() const {
  return std::ranges::any_of(arrays_, upstream::is_deleted);
}

ConstructionPlan::Built ConstructionPlan::build(const ConstructorCall& call) {
  std::unique_ptr<ConstructionPlan> plan(new ConstructionPlan());
  std::string reason;
  graph::Dependencies dependencies;
  graph::GuardRecorder recorder;
  add_roots(call, recorder);
  AugmentCheck augment(call, recorder);
  const auto captured = std::make_shared<ModuleCapture>();
  const auto construct_traced = [&](const nb::args& traced) -> nb::object {
    const nb::object rngs = rngs_from(call, traced);
    recorder.start();
    const nb::object module = [&] {
      const auto watch = RepeatedCalls::watch(call, recorder);
      return construct(call, rngs, &augment);
    }();
    dependencies = recorder.finish();
    try {
      return captured->take_apart(module, {call.args, call.kwargs}, recorder);
    } catch (const graph::Refusal& refusal) {
      reason = refusal.what();
      return nb::tuple();
    }
  };
  const SingleTrace trace = trace_once(call, construct_traced, abstract_inputs(call));
  if (reason.empty()) reason = trace.reason;
  if (reason.empty() && dependencies.observed_context)
    reason = "a constructor that asks about Linen's context";
  if (!reason.empty()) return {nullptr, {nullptr, reason, false}};
  if (trace.may_have_entered_mesh && dependencies.guards != nullptr)
    dependencies.guards->depend_on_entered_meshes();
  plan->captured_ = captured;
  plan->program_ = trace.program;
  plan->keys_ = call.keys();
  plan->complete();
  return {std::move(plan), std::move(dependencies), augment.does_nothing()};
}

std::unique_ptr<ConstructionPlan> ConstructionPlan::of(const InitProgram& recorded,
                                                       const ConstructorCall& call) {
  std::unique_ptr<ConstructionPlan> plan(new ConstructionPlan());
  const size_t keys = call.keys();
  // The recorded constructor began with counts of zero, as each one does.
  const auto of_keys = [keys, equations = recorded.equations](const nb::args& traced) {
    std::vector<nb::object> given = py::elements(traced);
    given.resize(keys);
    nb::list outputs;
    for (const nb::object& output : equations->run(given)) outputs.append(output);
    return nb::tuple(outputs);
  };
  plan->captured_ = recorded.captured;
  plan->program_ = upstream::trace_program(nb::cpp_function(of_keys), abstract_inputs(call));
  plan->keys_ = keys;
  plan->complete();
  return plan;
}

void ConstructionPlan::prepare_closure_values() {
  const auto& slots = captured_->slots();
  std::vector<bool> needed(captured_->outputs(), false);
  bool any = false;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!slots[i].is_in_closure || !captured_->is_computed(i)) continue;
    for (size_t output = captured_->first_output(i); output < captured_->first_output(i + 1);
         ++output)
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
  const auto& slots = captured_->slots();
  const std::vector<nb::object> outputs = closure_part_->outputs(keys);
  size_t next = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].is_in_closure && captured_->is_computed(i))
      values[i] = captured_->value_from(outputs, next, i);
  }
}

std::vector<nb::object> ConstructionPlan::Part::outputs(const std::vector<nb::object>& keys) const {
  if (constants) return *constants;
  nb::list used;
  for (size_t i = 0; i < used_keys.size(); ++i) {
    if (used_keys[i]) used.append(keys.at(i));
  }
  if (!compiled.is_valid()) return equations->run(py::elements(used));
  return py::elements(py::call(compiled, nb::tuple(used), nb::dict()));
}

// Counts are zero, so they are no inputs of the part.
ConstructionPlan::Part ConstructionPlan::part_of(const upstream::Pruned& pruned) const {
  Part part;
  part.used_keys = pruned.used_inputs;
  part.used_keys.resize(keys_);
  const auto used = static_cast<size_t>(std::ranges::count(part.used_keys, true));
  part.equations = std::make_shared<const upstream::EquationList>(
      upstream::EquationList::of_program(pruned.program, used));
  return part;
}

ConstructionPlan::Part ConstructionPlan::uncompiled_part(const std::vector<bool>& needed) const {
  return part_of(upstream::prune(program_, needed));
}

// For all outputs: there is one such part.
std::shared_ptr<const ConstructionPlan::Part> ConstructionPlan::staged_part(
    const std::vector<bool>& needed) const {
  if (staged_part_ == nullptr) staged_part_ = std::make_shared<const Part>(uncompiled_part(needed));
  return staged_part_;
}

std::shared_ptr<const ConstructionPlan::Part> ConstructionPlan::part_for(
    const std::vector<bool>& needed) const {
  const auto known = parts_.find(needed);
  const bool is_usable = known != parts_.end() &&
                         !(known->second->constants &&
                           std::ranges::any_of(*known->second->constants, upstream::is_deleted));
  if (is_usable) return known->second;
  const upstream::Pruned pruned = upstream::prune(program_, needed);
  Part part = part_of(pruned);
  const bool uses_keys = std::ranges::find(part.used_keys, true) != part.used_keys.end();
  if (uses_keys) {
    part.compiled = upstream::jitted(part.equations);
  } else {
    nb::list counts;
    for (const bool is_used : pruned.used_inputs) {
      if (is_used) counts.append(upstream::zero_count());
    }
    part.constants = upstream::evaluate_concretely(pruned.program, nb::tuple(counts));
  }
  // Forgotten parts die after the new one is inserted, since other threads may run meanwhile.
  const auto dying = parts_.size() < kMaxParts ? decltype(parts_)() : std::exchange(parts_, {});
  const auto made = std::make_shared<const Part>(std::move(part));
  parts_.insert_or_assign(needed, made);
  return made;
}

std::vector<nb::object> ConstructionPlan::keys_for(const ConstructorCall& call, nb::handle scope,
                                                   const Part& part) const {
  std::vector<nb::object> keys;
  for (const Stream& stream : call.streams) {
    if (!stream.key_type.is_valid()) continue;
    const size_t key = keys.size();
    const bool used = part.used_keys.at(key) || (closure_part_ && closure_part_->used_keys.at(key));
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
      if (is_parameter(i)) taken.missing.push_back(captured_->slots()[i].path);
    } else if (!has_structure_of(i, taken.values[i])) {
      return {};
    }
  }
  return finish(call, scope, std::move(taken), Run::kCompiled);
}

bool ConstructionPlan::is_parameter(size_t slot) const {
  return collections_[slot].is_valid() && collections_[slot].equal(upstream::names().params);
}

bool ConstructionPlan::has_structure_of(size_t slot, nb::handle value) const {
  if (!py::is_list_or_tuple(value)) return true;
  const nb::object structure = upstream::facade().tree_flatten(value)[1];
  return structure.equal(captured_->structure(slot));
}

ConstructionPlan::Made ConstructionPlan::instantiate(const ConstructorCall& call, nb::handle scope,
                                                     graph::StateTree& given, bool in_steps) const {
  const auto& slots = captured_->slots();
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
  return finish(call, scope, std::move(taken), in_steps ? Run::kInSteps : Run::kCompiled);
}

nb::object ConstructionPlan::initialize(const ConstructorCall& call, nb::handle scope) const {
  Taken none{std::vector<nb::object>(captured_->slots().size()), {}};
  return finish(call, scope, std::move(none), Run::kStaged).module;
}

ConstructionPlan::Made ConstructionPlan::finish(const ConstructorCall& call, nb::handle scope,
                                                Taken taken, Run run) const {
  if (moves_linen_modules_ && !upstream::is_innermost_without_names()) return {};
  std::vector<nb::object>& values = taken.values;
  const auto& slots = captured_->slots();
  std::vector<bool> needed(is_exact_.size(), false);
  for (size_t i = 0; i < slots.size(); ++i) {
    if (values[i].is_valid()) continue;
    if (!captured_->is_computed(i)) {
      values[i] = captured_->constant(i);
      continue;
    }
    if (slots[i].is_in_closure && run != Run::kStaged) continue;
    for (size_t output = captured_->first_output(i); output < captured_->first_output(i + 1);
         ++output) {
      if (!is_exact_[output] && run == Run::kCompiled) return {};
      needed[output] = true;
    }
  }
  const std::shared_ptr<const Part> part =
      run == Run::kInSteps  ? std::make_shared<const Part>(uncompiled_part(needed))
      : run == Run::kStaged ? staged_part(needed)
                            : part_for(needed);
  const std::vector<nb::object> keys = keys_for(call, scope, *part);
  if (run != Run::kStaged) add_closure_values(keys, values);
  const std::vector<nb::object> outputs = part->outputs(keys);
  size_t next = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!values[i].is_valid()) values[i] = captured_->value_from(outputs, next, i);
  }
  return {captured_->instantiate(values), std::move(taken.missing)};
}

}  // namespace nnx_wrappers::bridge
