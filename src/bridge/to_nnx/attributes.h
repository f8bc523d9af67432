// The attributes of a ToNNX that are the variables of its Linen module.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::bridge {

// True for a ToNNX of this library or of Flax: an NNX module with a Linen module and its variables
// as attributes.
bool is_to_nnx(nanobind::handle object);

// True if there is a Variable among the state attributes of a ToNNX.
bool has_variables(nanobind::handle to_nnx);

// The state attributes of a ToNNX: all attributes but the wrapper's own and private ones of Flax.
nanobind::dict state_attributes(nanobind::handle to_nnx);

// Makes attributes of variables that a Linen call returned or a caller gave. Nested levels are
// merged with those that exist. All names are checked before an attribute is set: throws ValueError
// for a name that would hide an attribute of the wrapper.
void set_variables(nanobind::handle to_nnx, nanobind::handle linen_variables,
                   const std::string& where);

}  // namespace nnx_wrappers::bridge
