// Interned names of attributes, arguments and streams of Flax, JAX and Qwix that are documented.
// Private names, with an underscore in front, are in private_names.h.
#pragma once

#include <nanobind/nanobind.h>

#include "py/names.h"

namespace nnx_wrappers::upstream {

// Each line is (C++ member, Python spelling).
#define NNX_WRAPPERS_UPSTREAM_NAMES(X)              \
  X(add, "add")                                     \
  X(add_axis, "add_axis")                           \
  X(apply, "apply")                                 \
  X(aval, "aval")                                   \
  X(capture_intermediates, "capture_intermediates") \
  X(children, "children")                           \
  X(clone, "clone")                                 \
  X(count, "count")                                 \
  X(create, "create")                               \
  X(debug_path, "debug_path")                       \
  X(default_, "default")                            \
  X(drawn, "drawn")                                 \
  X(dtype, "dtype")                                 \
  X(eager_sharding, "eager_sharding")               \
  X(flags, "flags")                                 \
  X(flatten, "flatten")                             \
  X(fork, "fork")                                   \
  X(from_metadata, "from_metadata")                 \
  X(from_nnx_metadata, "from_nnx_metadata")         \
  X(get_metadata, "get_metadata")                   \
  X(get_raw_value, "get_raw_value")                 \
  X(get_value, "get_value")                         \
  X(get_variable, "get_variable")                   \
  X(init, "init")                                   \
  X(init_with_output, "init_with_output")           \
  X(initializing_property, "initializing")          \
  X(is_mutable_collection, "is_mutable_collection") \
  X(key, "key")                                     \
  X(kwargs, "kwargs")                               \
  X(linen_meta_type, "linen_meta_type")             \
  X(made_in, "made_in")                             \
  X(make_rng, "make_rng")                           \
  X(mesh, "mesh")                                   \
  X(metadata, "metadata")                           \
  X(metadata_fn, "metadata_fn")                     \
  X(method, "method")                               \
  X(module_stack, "module_stack")                   \
  X(mutable_, "mutable")                            \
  X(name, "name")                                   \
  X(nnx_class, "nnx_class")                         \
  X(nnx_module_augment_fn, "nnx_module_augment_fn") \
  X(on_get_value, "on_get_value")                   \
  X(param, "param")                                 \
  X(params, "params")                               \
  X(parent, "parent")                               \
  X(partition_name, "partition_name")               \
  X(path, "path")                                   \
  X(put_variable, "put_variable")                   \
  X(remove_axis, "remove_axis")                     \
  X(replace, "replace")                             \
  X(reservations, "reservations")                   \
  X(reserve, "reserve")                             \
  X(rng, "rng")                                     \
  X(rng_counters, "rng_counters")                   \
  X(rngs, "rngs")                                   \
  X(scope, "scope")                                 \
  X(set_key, "set_key")                             \
  X(set_raw_value, "set_raw_value")                 \
  X(shape, "shape")                                 \
  X(sharding_rules, "sharding_rules")               \
  X(skip_rng, "skip_rng")                           \
  X(to_nnx_metadata, "to_nnx_metadata")             \
  X(to_nnx_module, "to_nnx__module")                \
  X(to_nnx_rngs, "to_nnx__rngs")                    \
  X(trace_level, "trace_level")                     \
  X(unbox, "unbox")                                 \
  X(unflatten, "unflatten")                         \
  X(update_variables, "_update_variables")          \
  X(value, "value")                                 \
  X(var_type, "var_type")                           \
  X(variables, "variables")

// These names and those of py::Names.
struct Names : py::Names {
#define NNX_WRAPPERS_DECLARE(member, text) nanobind::handle member;
  NNX_WRAPPERS_UPSTREAM_NAMES(NNX_WRAPPERS_DECLARE)
#undef NNX_WRAPPERS_DECLARE
};

// The table, made at the first call. Its names live as long as the interpreter.
const Names& names();

}  // namespace nnx_wrappers::upstream
