// The attributes of a ToNNX that are its Linen module's variables.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::bridge {

// True for an object that keeps a Linen module and its variables as attributes:
// ours, and Flax's own ToNNX inside a model.
bool is_to_nnx(nanobind::handle object);

// True if it holds at least one Variable among its state attributes.
bool has_variables(nanobind::handle to_nnx);

// The state attributes: all but the wrapper's own and Flax's private ones.
nanobind::dict state_attributes(nanobind::handle to_nnx);

// Sets the Variables that a Linen call returned or a caller gave, merging nested
// levels with those that are there. All names are checked before any is set.
// Throws ValueError for a name that would hide a method of the wrapper.
void set_variables(nanobind::handle to_nnx, nanobind::handle linen_variables,
                   const std::string& where);

}  // namespace nnx_wrappers::bridge
