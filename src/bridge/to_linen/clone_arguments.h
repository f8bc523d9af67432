// NNX objects among a constructor's arguments.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// Replaces every NNX module and Variable among the arguments (also inside
// containers) by a clone, sharing kept. A Linen module is pure: what it builds may
// not write into objects that the user holds, least of all traced values.
// Arguments without NNX objects are left as they are.
void clone_arguments(nanobind::tuple& args, nanobind::dict& kwargs);

}  // namespace nnx_wrappers::bridge
