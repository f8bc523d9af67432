// The variables of a ToNNX as a Linen call sees them.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

namespace nnx_wrappers::bridge {

// As to_linen_var, but the get hooks of the Variable run: Linen sees what its user sees.
nanobind::object leaf_for_call(nanobind::handle variable);

// As nnx_attrs_to_linen_vars, with leaves for a call. `visit` is told each Variable and its
// collection.
nanobind::dict variables_for_call(
    nanobind::handle attributes,
    const std::function<void(nanobind::handle collection, nanobind::handle variable)>& visit);

}  // namespace nnx_wrappers::bridge
