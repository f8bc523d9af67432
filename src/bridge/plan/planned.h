// The construction plan for a call of a ToLinen: from the cache, or made now.
#pragma once

#include <functional>
#include <memory>

#include "bridge/plan/construction_plan.h"
#include "bridge/plan/constructor_call.h"
#include "bridge/plan/recorded_init.h"
#include "bridge/report/usage.h"

namespace nnx_wrappers::bridge {

struct Planned {
  std::shared_ptr<const ConstructionPlan> plan;  // null if there is none
  bool is_of_this_call = false;                  // it was made now, and must not be used again
};

// Counts in `usage` the plan that it has found or made, or the reason why there is none.
Planned plan_for(const ConstructorCall& call, UsageOfCall& usage);

// How an `init` makes its module. In a trace that stages, the first of equal constructor calls is
// recorded while it runs: whether it may be planned, and what it has added to the jaxpr. The second
// makes a plan of that, if it may be planned. Outside of such a trace each constructor just runs.
class InitCall {
 public:
  InitCall(const ConstructorCall& call, UsageOfCall& usage);

  // The plan that makes the module, or null if the constructor has to run.
  const std::shared_ptr<const ConstructionPlan>& plan() const { return plan_; }

  // Runs the constructor of a call. If it is recorded, tells when the keys are drawn, and has the
  // augment function run by the recording.
  using Construct = std::function<nanobind::object(RecordedInit* recorded)>;

  // The module that `construct` makes of `call`.
  nanobind::object run(const ConstructorCall& call, const Construct& construct) const;

 private:
  std::shared_ptr<const ConstructionPlan> plan_;
  nanobind::object recorded_key_;  // of a call that is to be recorded; else invalid
};

}  // namespace nnx_wrappers::bridge
