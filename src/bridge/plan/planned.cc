#include "bridge/plan/planned.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "bridge/plan/augment_check.h"
#include "bridge/plan/plan_cache.h"
#include "bridge/plan/repeated_calls.h"
#include "py/call_recorder.h"
#include "py/object.h"
#include "upstream/feature_set.h"
#include "upstream/leaked.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The key of the calls of one name, which have a plan of their own where the augment function does
// something. Invalid without an augment function. `key` is that of calls of all names.
nb::object named_key(const ConstructorCall& call, const nb::object& key) {
  return call.augment_fn.is_none() ? nb::object() : nb::object(nb::make_tuple(key, call.name));
}

// True if the constructor has left its arguments as they were, whose key this was.
bool has_key(const ConstructorCall& call, const nb::object& key) {
  const nb::object now = key_of(call).key;
  return now.is_valid() && now.equal(key);
}

// Puts a plan into the cache, and counts it. Returns why it may not be used again; empty if it may.
std::string keep(const nb::object& key, PlanCache::NewPlan made, const ConstructorCall& call,
                 UsageOfCall& usage) {
  const std::string changed = made.changed;
  std::string reason = PlanCache::get().add(key, std::move(made), call.interceptors);
  reason.empty() ? usage.plan_built(changed) : usage.not_planned(reason);
  return reason;
}

// Makes a plan, and puts it into the cache if it may be used again.
Planned new_plan(const ConstructorCall& call, const nb::object& key, const std::string& changed,
                 UsageOfCall& usage) {
  ConstructionPlan::Built built = ConstructionPlan::build(call);
  const std::shared_ptr<const ConstructionPlan> plan = std::move(built.plan);
  graph::Dependencies& dependencies = built.dependencies;
  if (dependencies.guards != nullptr && !has_key(call, key))
    dependencies = {nullptr, "arguments that the constructor changes", false};
  const nb::object of_name = named_key(call, key);
  const bool is_of_name = of_name.is_valid() && !built.is_of_all_names;
  std::string reason = dependencies.reason;
  if (dependencies.guards == nullptr) {
    PlanCache::get().add_reason(of_name.is_valid() ? of_name : key, reason,
                                dependencies.may_be_retried, call.interceptors);
    usage.not_planned(reason);
  } else {
    reason = keep(is_of_name ? of_name : key, {plan, dependencies.guards, changed}, call, usage);
  }
  if (dependencies.observed_tracing) return {};  // the constructor has to run outside of a trace
  return {plan, !reason.empty()};
}

// The plan of what the first of equal `init`s has recorded.
std::shared_ptr<const ConstructionPlan> plan_of(const RecordedInit::Finished& first,
                                                const ConstructorCall& call, const nb::object& key,
                                                const std::string& changed, UsageOfCall& usage) {
  // A plan that was made before, and does not hold though the guards do, has a deleted array.
  std::shared_ptr<const ConstructionPlan> plan;
  if (first.program != nullptr && changed.empty())
    plan = ConstructionPlan::of(*first.program, call);
  if (plan == nullptr || plan->has_deleted_arrays())
    return new_plan(call, key, changed, usage).plan;
  keep(key, {plan, first.guards, changed}, call, usage);
  return plan;
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
      const PlanCache::Found found = plans.find(call_key.key, named_key(call, call_key.key));
      if (found.plan == nullptr && found.reason.empty())
        return new_plan(call, call_key.key, found.changed, usage);
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
    // A plan for one name has no equal.
    const CallKey call_key = key_of(call);
    if (!call_key.key.is_valid()) return;
    const std::optional<RecordedInit::Finished> first = plans.find_init(call_key.key);
    if (!first) recorded_key_ = call_key.key;
    if (!first || first->guards == nullptr) return;
    PlanCache::Found found = plans.find(call_key.key);
    if (found.plan != nullptr) {
      usage.plan_hit();
      plan_ = std::move(found.plan);
    } else if (found.reason.empty()) {
      plan_ = plan_of(*first, call, call_key.key, found.changed, usage);
    }
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
  }
}

nb::object InitCall::run(const ConstructorCall& call, const Construct& construct) const {
  if (!recorded_key_.is_valid()) return construct(nullptr);
  RecordedInit recorded(call);
  nb::object module = [&] {
    const auto watch = RepeatedCalls::watch(call, recorded.recorder());
    return construct(&recorded);
  }();
  RecordedInit::Finished first;
  try {
    first = recorded.finish(module);
    if (first.guards != nullptr && !has_key(call, recorded_key_)) first = {};
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    first = {};
  }
  PlanCache::get().note_init(recorded_key_, std::move(first));
  return module;
}

}  // namespace nnx_wrappers::bridge
