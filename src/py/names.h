// Interned attribute names and dict keys, each made once for the process.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

// (C++ member, Python spelling), one line a name.
#define NNX_WRAPPERS_NAMES(X)                       \
  X(add, "add")                                     \
  X(add_axis, "add_axis")                           \
  X(all_variables, "_variables")                    \
  X(apply, "apply")                                 \
  X(call_dunder, "__call__")                        \
  X(capture_intermediates, "capture_intermediates") \
  X(args, "args")                                   \
  X(aval, "aval")                                   \
  X(check_can_update, "_check_can_update")          \
  X(children, "children")                           \
  X(class_dunder, "__class__")                      \
  X(closure_dunder, "__closure__")                  \
  X(code_dunder, "__code__")                        \
  X(count, "count")                                 \
  X(create, "create")                               \
  X(dataclass_fields, "__dataclass_fields__")       \
  X(default_, "default")                            \
  X(debug_path, "debug_path")                       \
  X(defaults_dunder, "__defaults__")                \
  X(eager_sharding, "eager_sharding")               \
  X(dict_dunder, "__dict__")                        \
  X(drawn, "drawn")                                 \
  X(dtype, "dtype")                                 \
  X(flags, "flags")                                 \
  X(flatten, "flatten")                             \
  X(fork, "fork")                                   \
  X(from_metadata, "from_metadata")                 \
  X(from_nnx_metadata, "from_nnx_metadata")         \
  X(frozen_contents, "_dict")                       \
  X(func, "func")                                   \
  X(get_value, "get_value")                         \
  X(get_variable, "get_variable")                   \
  X(get_metadata, "get_metadata")                   \
  X(get_raw_value, "get_raw_value")                 \
  X(graph_node_flatten, "_graph_node_flatten")      \
  X(has_int_keys, "_pytree__has_int_keys")          \
  X(hijax, "hijax")                                 \
  X(init, "init")                                   \
  X(init_dunder, "__init__")                        \
  X(init_with_output, "init_with_output")           \
  X(initializing, "_initializing")                  \
  X(initializing_property, "initializing")          \
  X(is_mutable_collection, "is_mutable_collection") \
  X(is_pytree, "_pytree__is_pytree")                \
  X(is_setup, "_is_setup")                          \
  X(invalid, "_invalid")                            \
  X(items, "items")                                 \
  X(key, "key")                                     \
  X(kwargs, "kwargs")                               \
  X(kwdefaults_dunder, "__kwdefaults__")            \
  X(linen_meta_type, "linen_meta_type")             \
  X(made_in, "made_in")                             \
  X(make_rng, "make_rng")                           \
  X(mapping_contents, "_mapping")                   \
  X(mesh, "mesh")                                   \
  X(metadata, "metadata")                           \
  X(metadata_fn, "metadata_fn")                     \
  X(method, "method")                               \
  X(module_stack, "module_stack")                   \
  X(module_checks, "_module_checks")                \
  X(mutable_, "mutable")                            \
  X(name, "name")                                   \
  X(name_dunder, "__name__")                        \
  X(nnx_class, "nnx_class")                         \
  X(nnx_module_augment_fn, "nnx_module_augment_fn") \
  X(on_get_value, "on_get_value")                   \
  X(out_sharding, "out_sharding")                   \
  X(param, "param")                                 \
  X(params, "params")                               \
  X(parent, "parent")                               \
  X(partition_name, "partition_name")               \
  X(put_variable, "put_variable")                   \
  X(pytree_nodes, "_pytree__nodes")                 \
  X(pytree_state, "_pytree__state")                 \
  X(path, "path")                                   \
  X(raw_value, "_raw_value")                        \
  X(qualname_dunder, "__qualname__")                \
  X(wrapped_dunder, "__wrapped__")                  \
  X(ref, "ref")                                     \
  X(remove_axis, "remove_axis")                     \
  X(replace, "replace")                             \
  X(reservations, "reservations")                   \
  X(rng, "rng")                                     \
  X(rng_counters, "rng_counters")                   \
  X(rngs, "rngs")                                   \
  X(root, "_root")                                  \
  X(scope, "scope")                                 \
  X(self_dunder, "__self__")                        \
  X(reserve, "reserve")                             \
  X(shape, "shape")                                 \
  X(set_key, "set_key")                             \
  X(setattr_dunder, "__setattr__")                  \
  X(set_raw_value, "set_raw_value")                 \
  X(sharding_rules, "sharding_rules")               \
  X(skip_rng, "skip_rng")                           \
  X(state, "_state")                                \
  X(to_nnx_metadata, "to_nnx_metadata")             \
  X(to_nnx_module, "to_nnx__module")                \
  X(to_nnx_rngs, "to_nnx__rngs")                    \
  X(trace_level, "trace_level")                     \
  X(trace_state, "_trace_state")                    \
  X(unbox, "unbox")                                 \
  X(unflatten, "unflatten")                         \
  X(value, "value")                                 \
  X(var_metadata, "_var_metadata")                  \
  X(update_variables, "_update_variables")          \
  X(var_type, "var_type")                           \
  X(variables, "variables")

struct Names {
#define NNX_WRAPPERS_DECLARE(member, text) nanobind::handle member;
  NNX_WRAPPERS_NAMES(NNX_WRAPPERS_DECLARE)
#undef NNX_WRAPPERS_DECLARE
};

// The one table. The names are immortal: they live as long as the interpreter.
const Names& names();

}  // namespace nnx_wrappers::py
