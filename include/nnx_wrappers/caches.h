// What the library remembers between calls, and whether it may.
//
// Construction plans: what ToLinen learnt of a constructor (the module graph without
// values), by class, arguments, streams, JAX's trace context and Flax's
// configuration, and while everything else that the constructor has read is as it was.
// Shape checks: which parameters have passed Linen's check, guarded in the same way.
// Classes for Qwix: those by which submodules get paths. All caches are bounded and belong
// to the process; they hold classes and functions weakly, other arguments strongly until
// they are cleared. All functions need the GIL.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// {'plans': {'size', 'hits', 'misses', 'not_planned': {reason: recipes},
//            'rebuilt': {what had changed: plans made anew}},
//  'shape_checks': {'size', 'hits', 'misses'},
//  'qwix_classes': {'size', 'hits', 'misses'}}, counted since the last clear_caches.
nanobind::dict cache_info();

// Forgets everything and sets the counts to zero.
void clear_caches();

// Turns construction plans on or off for the process and returns what was set
// before. They are on unless the environment variable NNX_WRAPPERS_PLANS is 0.
bool use_plans(bool enabled);

}  // namespace nnx_wrappers
