// Interned private names of Flax and JAX. Only files of src/upstream may include this header; other
// rooms call functions of this room.
#pragma once

#include <nanobind/nanobind.h>

#include "upstream/names.h"

namespace nnx_wrappers::upstream {

// Each line is (C++ member, Python spelling).
#define NNX_WRAPPERS_PRIVATE_NAMES(X)          \
  X(all_variables, "_variables")               \
  X(frozen_contents, "_dict")                  \
  X(graph_node_flatten, "_graph_node_flatten") \
  X(has_int_keys, "_pytree__has_int_keys")     \
  X(in_compact_method, "in_compact_method")    \
  X(initializing, "_initializing")             \
  X(invalid, "_invalid")                       \
  X(is_pytree, "_pytree__is_pytree")           \
  X(is_setup, "_is_setup")                     \
  X(mapping_contents, "_mapping")              \
  X(module_checks, "_module_checks")           \
  X(pytree_nodes, "_pytree__nodes")            \
  X(pytree_state, "_pytree__state")            \
  X(raw_value, "_raw_value")                   \
  X(root, "_root")                             \
  X(state, "_state")                           \
  X(trace_state, "_trace_state")               \
  X(var_metadata, "_var_metadata")

// These names and the public ones.
struct PrivateNames : Names {
#define NNX_WRAPPERS_DECLARE(member, text) nanobind::handle member;
  NNX_WRAPPERS_PRIVATE_NAMES(NNX_WRAPPERS_DECLARE)
#undef NNX_WRAPPERS_DECLARE
};

// The table, made at the first call.
const PrivateNames& private_names();

}  // namespace nnx_wrappers::upstream
