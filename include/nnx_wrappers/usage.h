// What the wrappers did: calls, plans and time, by wrapped class.
//
// Recording is off at first and costs one test a call then. The table belongs to the
// process. All functions need the GIL; calls of several threads add up.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// Turns recording on or off and returns what was set before.
bool record_usage(bool enabled);

// The rows by seconds, descending: dicts of
//   wrapper        'ToLinen' or 'ToNNX'
//   wrapped        the wrapped class, 'module.Class'
//   inits          calls that made variables
//   calls          every other call
//   plans_built    calls that traced the constructor and used the new plan
//   plan_hits      calls that used a plan that was there; in both, inits count that JAX traces
//   rebuilt        {what had changed: calls}, of plans_built
//   not_planned    {reason: calls} that ran the constructor
//   seconds        inside the bridge: what the method of the wrapped module took is left out
nanobind::list usage();

// Empties the table.
void clear_usage();

}  // namespace nnx_wrappers
