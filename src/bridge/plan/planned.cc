#include "bridge/plan/planned.h"

#include <string>
#include <utility>

#include "bridge/plan/plan_cache.h"
#include "py/call_recorder.h"
#include "py/object.h"
#include "upstream/features.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// Makes a plan, and keeps it if that can be.
Planned new_plan(const ConstructorCall& call, nb::handle key, const std::string& changed,
                 UsageOfCall& usage) {
  PlanCache& plans = PlanCache::get();
  ConstructionPlan::Built built = ConstructionPlan::build(call);
  const std::shared_ptr<const ConstructionPlan> plan = std::move(built.plan);
  graph::Dependences& needs = built.dependences;
  if (needs.guards != nullptr) {
    std::string unused;
    const nb::object key_after = key_of(call, unused);
    if (!key_after.is_valid() || !key_after.equal(key)) {
      needs = {nullptr, "arguments that the constructor changes", false};
    }
  }
  std::string reason = needs.reason;
  if (needs.guards == nullptr) {
    plans.add_reason(key, reason, needs.may_be_retried, call.interceptors);
  } else {
    reason = plans.add(key, plan, needs.guards, changed, call.interceptors);
  }
  reason.empty() ? usage.plan_built(changed) : usage.not_planned(reason);
  if (needs.has_seen_the_trace) return {};  // the constructor has to run outside of one
  return {plan, !reason.empty()};
}

}  // namespace

Planned plan_for(const ConstructorCall& call, UsageOfCall& usage) {
  const bool is_off = !upstream::has(upstream::Feature::kPlans);
  if (is_off || !PlanCache::get().is_enabled()) {
    usage.not_planned("plans are switched off");
    return {};
  }
  if (py::CallRecorder::is_recording()) {  // what this one reads, the outer one depends on
    usage.not_planned("it is called while another constructor is planned");
    return {};
  }
  PlanCache& plans = PlanCache::get();
  std::string reason;
  try {
    const nb::object key = key_of(call, reason);
    if (key.is_valid()) {
      const PlanCache::Found found = plans.find(key);
      if (found.plan == nullptr && found.reason.empty()) {
        return new_plan(call, key, found.changed, usage);
      }
      found.plan != nullptr ? usage.plan_hit() : usage.not_planned(found.reason);
      return {found.plan, false};
    }
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    reason = "arguments that cannot be compared (" + py::type_name(error.type()) + ")";
  }
  plans.note_unkeyable(reason);
  usage.not_planned(reason);
  return {};
}

}  // namespace nnx_wrappers::bridge
