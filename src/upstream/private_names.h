// Interned private names of Flax and JAX. Only files of src/upstream may include this header; other
// rooms call functions of this room.
#pragma once

#include <nanobind/nanobind.h>

#include "upstream/names.h"

namespace nnx_wrappers::upstream {

// Each line is (C++ member, Python spelling).
#define NNX_WRAPPERS_PRIVATE_NAMES(X)          \
  X(autoname_cursor, "autoname_cursor")        \
  X(all_variables, "_variables")               \
  X(bind, "bind")                              \
  X(consts, "consts")                          \
  X(constvar_to_val, "constvar_to_val")        \
  X(constvars, "constvars")                    \
  X(ctx, "ctx")                                \
  X(effects, "effects")                        \
  X(emit_eqn, "emit_eqn")                      \
  X(eqns, "eqns")                              \
  X(frame, "frame")                            \
  X(frozen_contents, "_dict")                  \
  X(get_bind_params, "get_bind_params")        \
  X(graph_node_flatten, "_graph_node_flatten") \
  X(has_int_keys, "_pytree__has_int_keys")     \
  X(in_compact_method, "in_compact_method")    \
  X(in_tracers, "in_tracers")                  \
  X(initializing, "_initializing")             \
  X(invalid, "_invalid")                       \
  X(invars, "invars")                          \
  X(is_high, "is_high")                        \
  X(is_pytree, "_pytree__is_pytree")           \
  X(is_setup, "_is_setup")                     \
  X(jaxpr, "jaxpr")                            \
  X(jit_info, "_jit_info")                     \
  X(manager, "manager")                        \
  X(mapping_contents, "_mapping")              \
  X(module_checks, "_module_checks")           \
  X(multiple_results, "multiple_results")      \
  X(outvars, "outvars")                        \
  X(primitive, "primitive")                    \
  X(pytree_nodes, "_pytree__nodes")            \
  X(pytree_state, "_pytree__state")            \
  X(raw_value, "_raw_value")                   \
  X(root, "_root")                             \
  X(setup_called, "setup_called")              \
  X(state, "_state")                           \
  X(to_jaxpr_tracer, "to_jaxpr_tracer")        \
  X(trace, "_trace")                           \
  X(trace_state, "_trace_state")               \
  X(tracing_eqns, "tracing_eqns")              \
  X(use_resource_env, "use_resource_env")      \
  X(val, "val")                                \
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
