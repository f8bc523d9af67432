// Running an NNX module once so that the ToNNX modules in it make their variables.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// Calls `module_or_method` (an nnx.Module, or a bound method of one) with every
// module of the graph in initializing mode, and returns it. The flags are taken
// back in every case; if the call fails, the whole graph (attributes, Variables,
// RNG counts) is as before. Needs the GIL; runs user code. Throws TypeError for a
// module that cannot be called, ValueError for anything that is no method of one.
nanobind::object lazy_init(nanobind::handle module_or_method, const nanobind::tuple& args,
                           const nanobind::dict& kwargs);

}  // namespace nnx_wrappers
