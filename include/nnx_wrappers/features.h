// What works here, and how: the library knows how many versions of Flax and JAX work inside, and
// uses that to be fast where it finds that it is right. Needs the GIL; may be called by any thread.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// {feature: reason}: None where the feature is on, else why it is off. Where one is off, Flax's own
// way runs, slower and with the same answers. Decided once in a process, by the installed Flax and
// JAX and by the environment variable NNX_WRAPPERS_DISABLE. Imports Flax.
nanobind::dict features();

}  // namespace nnx_wrappers
