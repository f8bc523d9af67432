// The construction plan for a call of a ToLinen: from the cache, or made now.
#pragma once

#include <memory>

#include "bridge/plan/construction_plan.h"
#include "bridge/plan/constructor_call.h"
#include "bridge/report/usage.h"

namespace nnx_wrappers::bridge {

struct Planned {
  std::shared_ptr<const ConstructionPlan> plan;  // null if there is none
  bool is_of_this_call = false;                  // it was made now, and must not be used again
};

// Counts in `usage` the plan that it has found or made, or the reason why there is none.
Planned plan_for(const ConstructorCall& call, UsageOfCall& usage);

}  // namespace nnx_wrappers::bridge
