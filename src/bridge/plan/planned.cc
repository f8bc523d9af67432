#include "bridge/plan/planned.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "bridge/plan/module_capture.h"
#include "bridge/plan/plan_cache.h"
#include "bridge/plan/repeated_calls.h"
#include "bridge/to_nnx/attributes.h"
#include "graph/guard_recorder.h"
#include "graph/walk.h"
#include "py/call_recorder.h"
#include "py/object.h"
#include "upstream/feature_set.h"
#include "upstream/leaked.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// Makes a plan, and puts it into the cache if it may be used again.
Planned new_plan(const ConstructorCall& call, nb::handle key, const std::string& changed,
                 UsageOfCall& usage) {
  PlanCache& plans = PlanCache::get();
  ConstructionPlan::Built built = ConstructionPlan::build(call);
  const std::shared_ptr<const ConstructionPlan> plan = std::move(built.plan);
  graph::Dependencies& dependencies = built.dependencies;
  if (dependencies.guards != nullptr) {
    const nb::object key_after = key_of(call).key;
    if (!key_after.is_valid() || !key_after.equal(key)) {
      dependencies = {nullptr, "arguments that the constructor changes", false};
    }
  }
  std::string reason = dependencies.reason;
  if (dependencies.guards == nullptr) {
    plans.add_reason(key, reason, dependencies.may_be_retried, call.interceptors);
  } else {
    reason = plans.add(key, {plan, dependencies.guards, changed}, call.interceptors);
  }
  reason.empty() ? usage.plan_built(changed) : usage.not_planned(reason);
  if (dependencies.observed_tracing) return {};  // the constructor has to run outside of a trace
  return {plan, !reason.empty()};
}

Planned shared_hit(std::shared_ptr<const ConstructionPlan> plan, UsageOfCall& usage) {
  PlanCache::get().count_as_hit();
  usage.plan_hit();
  return {std::move(plan), false};
}

// The plan of the constructor alone, for a call whose augment function does nothing to the module.
// Nothing if the augment function is part of the plan. `key` and `changed` are of the call.
std::optional<Planned> shared_plan(const ConstructorCall& call, nb::handle key,
                                   const std::string& changed, UsageOfCall& usage) {
  if (call.augment_fn.is_none() || call.interceptors.is_valid()) return std::nullopt;
  PlanCache& plans = PlanCache::get();
  ConstructorCall plain = call;
  plain.augment_fn = nb::none();
  const nb::object all_names = key_of(call, WithName::kNever).key;
  const nb::object plain_key = key_of(plain).key;
  if (!all_names.is_valid() || !plain_key.is_valid() || plans.is_unshared(all_names))
    return std::nullopt;
  const PlanCache::Found of_all = plans.find_shared(all_names);
  if (of_all.plan != nullptr) return shared_hit(of_all.plan, usage);

  PlanCache::Found found = plans.find_shared(plain_key);
  const bool is_new = found.plan == nullptr;
  if (!found.reason.empty()) {
    usage.not_planned(found.reason);
    return Planned{};
  }
  if (is_new) {
    new_plan(plain, plain_key, found.changed, usage);
    found = plans.find_shared(plain_key);
    if (found.plan == nullptr) return Planned{};
  }
  const auto [dependencies, reads_name] = found.plan->augment(call);
  const nb::object key_after = key_of(call).key;
  if (dependencies.guards == nullptr || !key_after.is_valid() || !key_after.equal(key)) {
    if (!dependencies.may_be_retried) plans.note_unshared(all_names);
    return std::nullopt;
  }
  const auto guards = std::make_shared<graph::GuardSet>();
  guards->add(found.guards);
  guards->add(dependencies.guards);
  plans.add(reads_name ? key : nb::handle(all_names),
            {found.plan, guards, reads_name ? changed : of_all.changed}, call.interceptors);
  return is_new ? Planned{found.plan, false} : shared_hit(found.plan, usage);
}

bool may_plan() {
  return upstream::has(upstream::Feature::kPlans) && PlanCache::get().is_enabled();
}

}  // namespace

Planned plan_for(const ConstructorCall& call, UsageOfCall& usage) {
  if (!may_plan()) {
    usage.not_planned("plans are switched off");
    return {};
  }
  // The outer constructor depends on what this one reads, so this one has to run.
  if (py::CallRecorder::is_recording()) {
    usage.not_planned("it is called while another constructor is planned");
    return {};
  }
  PlanCache& plans = PlanCache::get();
  std::string reason;
  try {
    const CallKey call_key = key_of(call);
    if (call_key.key.is_valid()) {
      const PlanCache::Found found = plans.find(call_key.key);
      if (found.plan == nullptr && found.reason.empty()) {
        if (auto shared = shared_plan(call, call_key.key, found.changed, usage)) return *shared;
        return new_plan(call, call_key.key, found.changed, usage);
      }
      found.plan != nullptr ? usage.plan_hit() : usage.not_planned(found.reason);
      return {found.plan, false};
    }
    reason = call_key.reason;
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    reason = "arguments that cannot be compared (" + py::type_name(error.type()) + ")";
  }
  plans.note_unkeyable(reason);
  usage.not_planned(reason);
  return {};
}

InitCall::InitCall(const ConstructorCall& call, UsageOfCall& usage) {
  const bool may_stage = may_plan() && !py::CallRecorder::is_recording() &&
                         !call.interceptors.is_valid() && upstream::is_staging();
  if (!may_stage) return;
  PlanCache& plans = PlanCache::get();
  try {
    const CallKey all_names = key_of(call, WithName::kNever);
    if (!all_names.key.is_valid()) return;
    const std::optional<bool> may_be_planned = plans.may_plan_init(all_names.key);
    if (!may_be_planned) recorded_key_ = all_names.key;
    if (!may_be_planned.value_or(false)) return;
    const bool is_augmented = !call.augment_fn.is_none();
    // A plan with an augment function in it is of one name, so it has no equal.
    if (is_augmented && plans.is_unshared(all_names.key)) return;
    const nb::object key = key_of(call).key;
    PlanCache::Found found = plans.find(key);
    if (found.plan != nullptr) {
      usage.plan_hit();
      plan_ = std::move(found.plan);
    } else if (found.reason.empty()) {
      plan_ = is_augmented ? shared_plan(call, key, found.changed, usage).value_or(Planned{}).plan
                           : new_plan(call, key, found.changed, usage).plan;
    }
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
  }
}

nb::object InitCall::run(const ConstructorCall& call,
                         const std::function<nb::object()>& construct) const {
  if (!recorded_key_.is_valid()) return construct();
  graph::GuardRecorder recorder;
  add_roots(call, recorder);
  recorder.start();
  nb::object module = [&] {
    const auto watch = RepeatedCalls::watch(call, recorder);
    return construct();
  }();
  std::shared_ptr<const graph::GuardSet> guards = recorder.finish().guards;
  const auto holds_to_nnx = [&] {
    return std::ranges::any_of(graph::pytrees_of(module), is_to_nnx);
  };
  const bool may_be_planned = guards != nullptr &&
                              ModuleCapture::can_copy(module, {call.args, call.kwargs}, recorder) &&
                              !holds_to_nnx();
  PlanCache::get().note_init(recorded_key_, may_be_planned ? std::move(guards) : nullptr);
  return module;
}

}  // namespace nnx_wrappers::bridge
