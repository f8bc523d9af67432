#include "bridge/plan/planned.h"

#include <string>
#include <utility>

#include "bridge/plan/plan_cache.h"
#include "py/call_recorder.h"
#include "py/object.h"
#include "upstream/feature_set.h"

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

}  // namespace

Planned plan_for(const ConstructorCall& call, UsageOfCall& usage) {
  const bool is_off = !upstream::has(upstream::Feature::kPlans);
  if (is_off || !PlanCache::get().is_enabled()) {
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

}  // namespace nnx_wrappers::bridge
