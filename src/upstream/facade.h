// The table of all objects of Flax and JAX that the library uses, private ones included. Each is
// looked up once, in the first place that has it, since versions keep the same object in different
// places. Nothing outside of src/upstream imports these modules.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The objects are immortal: they live as long as the interpreter, so the table has handles. A
// member is named after its object, without the module.
struct Facade {
  // flax.nnx
  nb::handle nnx_module;          // class nnx.Module
  nb::handle nnx_dict;            // class nnx.Dict
  nb::handle nnx_list;            // class nnx.List
  nb::handle pytree;              // class nnx.Pytree, formerly nnx.Object
  nb::handle pytree_flatten;      // nnx.Pytree._graph_node_flatten
  nb::handle variable;            // class nnx.Variable
  nb::handle variable_init;       // nnx.Variable.__init__
  nb::handle variable_get_value;  // this and the other names of new Variables: null up to 0.12.0
  nb::handle hijax_variable;      // class HijaxVariable (a Variable that is a JAX type)
  nb::handle required_metadata;
  nb::handle variable_types;  // dict: collection name -> Variable type; may be null
  nb::handle register_variable_name;
  nb::handle variable_type_from_name;
  nb::handle variable_name_from_type;
  nb::handle var_defaults;  // null before Flax 0.12.4
  nb::handle using_eager_sharding;
  nb::handle is_array_ref;
  nb::handle rng_state;   // class nnx.RngState
  nb::handle rngs;        // class nnx.Rngs
  nb::handle rng_stream;  // class RngStream
  nb::handle rng_key;
  nb::handle rng_count;
  nb::handle is_data;
  nb::handle has_data;  // null before Flax 0.12.5
  nb::handle data;
  nb::handle split;
  nb::handle clone;
  nb::handle with_partitioning;  // flax.nnx.spmd.with_partitioning
  nb::handle get_node_impl;
  nb::handle graph_registry;
  nb::handle pytree_registry;
  nb::handle jax_pytree_registry;
  nb::handle data_elem;
  nb::handle static_elem;
  nb::handle bridge_context;  // MODULE_CONTEXT of flax.nnx.bridge.module
  nb::handle nnx_meta;        // class flax.nnx.bridge.NNXMeta

  // flax.linen and flax.core
  nb::handle linen_module;      // class linen.Module
  nb::handle linen_sequential;  // class linen.Sequential, any Linen class that can be made
  nb::handle linen_apply;       // flax.linen.apply
  nb::handle unbound_function;  // flax.linen.module._get_unbound_fn
  nb::handle scope;             // class flax.core.Scope
  nb::handle core_apply;        // flax.core.apply
  nb::handle copy_methods;      // flax.linen.module._UNDEFINED_COPY_PICKLE_METHODS
  nb::handle current_trace;     // flax.core.tracers.current_trace
  nb::handle child_rng_token;   // marks the counters of a child scope
  nb::handle lazy_rng;          // class flax.core.scope.LazyRng
  nb::handle lift_pack;         // flax.core.lift.pack, which lifted transformations are made with
  nb::handle linen_post_init;   // flax.linen.Module.__post_init__, which looks for a parent
  nb::handle asks_for_linen_module;  // flax.nnx.bridge.wrappers.current_linen_module
  nb::handle linen_context;          // the dynamic context of linen.module
  nb::handle linen_interceptors;     // those of nn.intercept_methods, a stack for each thread
  nb::handle axis_metadata;
  nb::handle partitioned;
  nb::handle frozen_dict;
  nb::handle unfreeze;
  nb::handle unbox;               // flax.core.meta.unbox
  nb::handle logical_axis_rules;  // flax.core.spmd.get_logical_axis_rules
  nb::handle shard_value;
  nb::handle get_global_mesh;
  nb::handle invalid_rng_error;
  nb::handle trace_context_error;
  nb::handle modify_variable_error;
  nb::handle variable_not_found_error;
  nb::handle param_not_found_error;
  nb::handle collection_not_found_error;
  nb::handle not_initialized_error;  // a subclass of the two above, made by this library

  // jax, numpy and the standard library
  nb::handle jax_array;
  nb::handle array_impl;      // the class of concrete arrays
  nb::handle prng_key_array;  // the class of concrete random keys
  nb::handle shaped_array;    // the abstract value of every array but refs
  nb::handle numpy_array;
  nb::handle numpy_uint32;
  nb::handle count_dtype;    // of the counters of streams: uint32
  nb::handle add_primitive;  // jax.lax.add_p
  nb::handle jaxpr_tracer;   // the class of the values of a trace that stages; may be null
  nb::handle source_info;    // returns what JAX notes of where an equation is from; may be null
  nb::handle literal;        // class jax.extend.core.Literal; null where JAX does not show it
  nb::handle tracer;
  nb::handle dict_key;
  nb::handle new_ref;
  nb::handle partition_spec;
  nb::handle named_sharding;
  nb::handle tree_flatten;
  nb::handle from_state_dict;  // flax.serialization
  nb::handle to_state_dict;
  nb::handle trace_context;   // JAX's key of all settings that tracing depends on
  nb::handle entered_meshes;  // the setting of `with mesh:`
  nb::handle get_abstract_mesh;
  nb::handle concrete_mesh;  // returns the mesh that jax.set_mesh has set
  nb::handle jit_function;   // the type of the functions that jax.jit returns
  nb::handle custom_jvp;
  nb::handle custom_vjp;
  nb::handle ufunc;
  nb::handle numpy_dtype;
  nb::handle make_jaxpr;
  nb::handle type_of;             // jax.typeof
  nb::handle pytree_constructor;  // runs the constructor of an nnx.Pytree class
  nb::handle eval_shape;
  nb::handle random_key;
  nb::handle dce_jaxpr;
  nb::handle closed_jaxpr;
  nb::handle jit;
  nb::handle fold_in;            // jax.random.fold_in
  nb::handle lax_add;            // jax.lax.add
  nb::handle compile_time_eval;  // jax.ensure_compile_time_eval
  nb::handle asarray;
  nb::handle issubdtype;
  nb::handle inexact;
  nb::handle shape_dtype_struct;
  nb::handle jax_config;
  nb::handle enum_type;
  nb::handle mesh;
  nb::handle abstract_mesh;
  nb::handle hashable_mapping;  // flax.nnx.graphlib.HashableMapping
  nb::handle trace_state;       // class flax.nnx.tracers.TraceState
  nb::handle partial;           // functools.partial
  nb::handle dict_class;
  nb::handle defaultdict;
  nb::handle copy;  // copy.copy
  nb::handle warn;  // warnings.warn

  // The keys of a Variable's metadata, which versions spell differently.
  nb::handle hijax_key;     // 'hijax', 'is_hijax'
  nb::handle ref_key;       // 'ref', 'has_ref'
  nb::handle sharding_key;  // 'out_sharding', 'sharding_names'

  // True if Flax's own bridge leaves hijax, ref and eager_sharding out of the metadata of a box:
  // Flax 0.12.11 and later.
  bool boxes_exclude_required = false;
  // True where an attribute is part of the graph if it is marked as data (Flax 0.12.5 and later).
  // Before, nodes, Variables and arrays are, whatever their marks, and no other value is.
  bool has_data_marks = false;
};

// The table, loaded at the first call. Needs the GIL; may import modules. Throws ImportError, with
// the installed versions, if Flax or JAX lacks one of the names.
const Facade& facade();

}  // namespace nnx_wrappers::upstream
