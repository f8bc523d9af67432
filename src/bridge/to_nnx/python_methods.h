// The bodies of the methods of the Python class nnx_wrappers.ToNNX. All need the GIL and
// run user code; `self` is borrowed.
#pragma once

#include <nanobind/nanobind.h>

#include "nnx_wrappers/to_nnx.h"

namespace nnx_wrappers::bridge::to_nnx {

// ToNNX.__init__. Throws TypeError as the constructor of nnx_wrappers::ToNNX.
void initialize(nanobind::handle self, nanobind::handle linen_module, nanobind::handle rngs);

// ToNNX.__call__: see nnx_wrappers::ToNNX::call.
nanobind::object call(nanobind::handle self, const nanobind::tuple& args,
                      const nanobind::dict& kwargs, const ToNNXCall& options);

// The variables of `self` in Linen's form.
nanobind::dict variables(nanobind::handle self);

// A missing attribute: a method of the Linen class bound to this object, else
// AttributeError.
nanobind::object attribute(nanobind::handle self, nanobind::handle name);

// A value as it has to be given to nnx.Module's own setattr: containers that hold
// data are marked as data.
nanobind::object attribute_value(nanobind::handle value);

// Drops the forked RNGs.
void release_rngs(nanobind::handle self);

}  // namespace nnx_wrappers::bridge::to_nnx
