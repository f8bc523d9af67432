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

// The plan by which an `init` makes its module, or null if the constructor has to run: outside of a
// trace that stages, at the first of equal calls unless its constructor has a loop, and wherever
// there can be no plan. Nor is there one for a module with a ToNNX in it, which `init` has yet to
// make variables for.
std::shared_ptr<const ConstructionPlan> plan_for_init(const ConstructorCall& call,
                                                      UsageOfCall& usage);

}  // namespace nnx_wrappers::bridge
