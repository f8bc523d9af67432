// The variables of a ToNNX for a call of its Linen module.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>

namespace nnx_wrappers::bridge {

// As to_linen_var, but the value is the one that users of the Variable read: get hooks run.
nanobind::object leaf_for_call(nanobind::handle variable);

// As nnx_attrs_to_linen_vars, with leaves from leaf_for_call. `visit` is called with each Variable
// and its collection.
nanobind::dict variables_for_call(
    nanobind::handle attributes,
    const std::function<void(nanobind::handle collection, nanobind::handle variable)>& visit);

}  // namespace nnx_wrappers::bridge
