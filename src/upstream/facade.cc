#include "upstream/facade.h"

#include <array>
#include <charconv>
#include <initializer_list>
#include <string>

#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/dialect/dialect.h"
#include "upstream/look_up.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

namespace {

// nnx.clone of what may share nodes: with an argument that Flax 0.12.1 does not have.
nb::handle clone_of_graphs() {
  const nb::object clone = nb::borrow(look_up("flax.nnx:clone"));
  if (!takes_argument(clone, "graph")) return nb::object(clone).release();
  const nb::object partial = nb::module_::import_("functools").attr("partial");
  return partial(clone, nb::arg("graph") = true).release();
}

// The name under which this version keeps how a value is sharded, in the metadata of a Variable.
nb::handle sharding_key_of(const Facade& table) {
  const nb::object initializer = table.with_partitioning(table.dict_class, nb::make_tuple("axis"));
  const nb::object metadata = py::get(initializer(), nb::str("metadata"));
  for (const char* key : {"out_sharding", "sharding_names"}) {
    if (py::contains(metadata, nb::str(key))) return PyUnicode_InternFromString(key);
  }
  return PyUnicode_InternFromString("sharding");
}

nb::handle required_key(const Facade& table, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (py::contains(table.required_metadata, nb::str(key))) {
      return PyUnicode_InternFromString(key);
    }
  }
  if (dialect().has_older_variables) return PyUnicode_InternFromString(*keys.begin());
  throw InternalError("a Variable without one of the metadata that each has");
}

bool version_at_least(const std::string& version, const std::array<int, 3>& minimum) {
  std::array<int, 3> parts{};
  const char* next = version.data();
  const char* const end = next + version.size();
  for (int& part : parts) {
    next = std::from_chars(next, end, part).ptr;
    if (next == end || *next != '.') break;  // "0.12.8rc1" ends here
    ++next;
  }
  return parts >= minimum;
}

// The class NotInitializedError. Flax raises ScopeParamNotFoundError or ScopeCollectionNotFound,
// depending on which variables of the module are missing; code that catches either one catches this
// error.
nb::handle make_not_initialized_error(const Facade& table) {
  nb::dict body;
  body["__module__"] = "nnx_wrappers";
  body["__doc__"] = "A ToNNX was called before lazy_init made the variables of its Linen module.";
  const nb::object metaclass = nb::borrow(reinterpret_cast<PyObject*>(&PyType_Type));
  return metaclass("NotInitializedError",
                   nb::make_tuple(table.param_not_found_error, table.collection_not_found_error),
                   body)
      .release();
}

// lazy_init sets the flag of each module that says that variables may be made; nothing public does.
void require_initializing_flag(nb::handle module_class) {
  const nb::object state = py::get_optional(module_class(), private_names().pytree_state);
  if (!state.is_valid()) raise_missing("nnx.Module._pytree__state");
  const nb::object flag = py::get_optional(state, private_names().initializing);
  if (!flag.is_valid()) raise_missing("nnx.Module._pytree__state._initializing");
}

// As look_up, for what Flax 0.12.0 and older may lack.
nb::handle look_up_since_0_12(std::initializer_list<const char*> places) {
  return dialect().has_older_variables ? look_for(places) : look_up(places);
}

nb::handle look_up_class_since_0_12(std::initializer_list<const char*> places) {
  return dialect().has_older_variables ? look_for_class(places) : look_up(places);
}

Facade load() {
  require_flax();
  Facade f;
  f.dict_class = nb::handle(reinterpret_cast<PyObject*>(&PyDict_Type));
  f.copy_methods = look_for({"flax.linen.module:_UNDEFINED_COPY_PICKLE_METHODS"});
  f.nnx_module = look_up("flax.nnx:Module");
  require_initializing_flag(f.nnx_module);
  f.nnx_dict = look_up_class_since_0_12({"flax.nnx:Dict"});
  f.nnx_list = look_up_class_since_0_12({"flax.nnx:List"});
  f.pytree = look_up({"flax.nnx:Pytree", "flax.nnx:Object"});
  f.pytree_flatten =
      look_for({"flax.nnx:Pytree._graph_node_flatten", "flax.nnx:Object._graph_node_flatten"});
  f.variable = look_up("flax.nnx:Variable");
  f.variable_init = look_up("flax.nnx:Variable.__init__");
  f.variable_get_value = look_up_since_0_12({"flax.nnx:Variable.get_value"});
  f.hijax_variable = look_for_class({"flax.nnx.variablelib:HijaxVariable"});
  f.required_metadata = look_up_since_0_12({"flax.nnx:Variable.required_metadata"});
  if (!f.required_metadata.is_valid()) f.required_metadata = nb::frozenset(nb::list()).release();
  f.variable_types = look_for(
      {"flax.nnx.bridge.variables:VariableTypeCache", "flax.nnx.variablelib:VariableTypeCache"});
  f.register_variable_name = look_up(
      {"flax.nnx:register_variable_name", "flax.nnx.bridge:register_variable_name_type_pair"});
  f.variable_name_from_type =
      look_up({"flax.nnx:variable_name_from_type", "flax.nnx.bridge.variables:variable_type_name"});
  f.variable_type_from_name =
      look_up({"flax.nnx:variable_type_from_name", "flax.nnx.bridge.variables:variable_type"});
  f.var_defaults = look_for({"flax.nnx:var_defaults", "flax.nnx.variablelib:var_defaults"});
  f.using_eager_sharding = look_up_since_0_12(
      {"flax.nnx:using_eager_sharding", "flax.nnx.variablelib:using_eager_sharding"});
  f.is_array_ref = look_up_since_0_12({"flax.nnx:is_array_ref", "flax.nnx.variablelib:is_array_ref",
                                       "flax.nnx.variablelib:is_mutable_array"});
  f.rng_state = look_up("flax.nnx:RngState");
  f.rngs = look_up("flax.nnx:Rngs");
  f.rng_stream = look_up("flax.nnx:RngStream");
  f.rng_key = look_up("flax.nnx:RngKey");
  f.rng_count = look_up("flax.nnx:RngCount");
  f.is_data = look_up_since_0_12({"flax.nnx:is_data"});
  f.has_data = look_for({"flax.nnx:has_data", "flax.nnx.pytreelib:has_data"});
  f.data = look_up_since_0_12({"flax.nnx:data"});
  f.split = look_up("flax.nnx:split");
  f.clone = clone_of_graphs();
  f.with_partitioning = look_up("flax.nnx.spmd:with_partitioning");
  f.get_node_impl = look_up({"flax.nnx.graphlib:get_node_impl", "flax.nnx.graph:get_node_impl"});
  f.graph_registry = look_up({"flax.nnx.graphlib:GRAPH_REGISTRY", "flax.nnx.graph:GRAPH_REGISTRY"});
  f.pytree_registry =
      look_up({"flax.nnx.graphlib:PYTREE_REGISTRY", "flax.nnx.graph:PYTREE_REGISTRY"});
  f.jax_pytree_registry =
      look_for({"flax.nnx.graphlib:JAX_PYTREE_REGISTRY", "flax.nnx.graph:JAX_PYTREE_REGISTRY"});
  // The module graphlib came with the marks: without the class of those no graph can be read.
  f.has_data_marks = find("flax.nnx.graphlib:__name__").is_valid();
  f.data_elem = f.has_data_marks ? look_up("flax.nnx.graphlib:DataElem") : class_of_nothing();
  f.static_elem = look_for_class({"flax.nnx.graphlib:StaticElem"});
  f.bridge_context = look_for({"flax.nnx.bridge.module:MODULE_CONTEXT"});
  f.nnx_meta = look_up({"flax.nnx.bridge:NNXMeta", "flax.nnx.bridge.variables:NNXMeta"});

  f.linen_module = look_up("flax.linen:Module");
  f.linen_sequential = look_up("flax.linen:Sequential");
  f.linen_apply = look_up("flax.linen:apply");
  f.unbound_function = look_for({"flax.linen.module:_get_unbound_fn"});
  f.scope = look_up("flax.core:Scope");
  f.core_apply = look_for({"flax.core:apply"});
  f.current_trace = look_up("flax.core.tracers:current_trace");
  f.child_rng_token = look_for({"flax.core.scope:child_rng_token"});
  f.lazy_rng = look_for({"flax.core.scope:LazyRng"});
  f.lift_pack = look_for({"flax.core.lift:pack"});
  f.linen_post_init = look_for({"flax.linen:Module.__post_init__"});
  f.asks_for_linen_module = look_for({"flax.nnx.bridge.wrappers:current_linen_module"});
  f.linen_context = look_up("flax.linen.module:_context");
  f.linen_interceptors = look_up("flax.linen.module:_global_interceptor_stack");
  f.axis_metadata = look_up("flax.core.meta:AxisMetadata");
  f.partitioned = look_up("flax.core.meta:Partitioned");
  f.frozen_dict = look_up("flax.core:FrozenDict");
  f.unbox = look_up("flax.core.meta:unbox");
  f.unfreeze = look_up("flax.core:unfreeze");
  f.logical_axis_rules = look_up("flax.core.spmd:get_logical_axis_rules");
  f.shard_value = look_up_since_0_12({"flax.core.spmd:shard_value"});
  f.get_global_mesh = look_up_since_0_12({"flax.core.meta:get_global_mesh"});
  f.trace_context_error = look_up("flax.errors:TraceContextError");
  f.modify_variable_error = look_up("flax.errors:ModifyScopeVariableError");
  f.variable_not_found_error = look_up("flax.errors:ScopeVariableNotFoundError");
  f.invalid_rng_error = look_up("flax.errors:InvalidRngError");
  f.param_not_found_error = look_up("flax.errors:ScopeParamNotFoundError");
  f.collection_not_found_error = look_up("flax.errors:ScopeCollectionNotFound");
  f.not_initialized_error = make_not_initialized_error(f);

  f.jax_array = look_up("jax:Array");
  f.array_impl = look_for_class({"jax._src.array:ArrayImpl"});
  f.prng_key_array =
      look_for_class({"jax._src.random.prng:PRNGKeyArray", "jax._src.prng:PRNGKeyArray"});
  f.shaped_array = look_up("jax.core:ShapedArray");
  f.numpy_array = look_up("numpy:ndarray");
  f.numpy_uint32 = look_up("numpy:uint32");
  f.count_dtype = nb::borrow(look_up("numpy:dtype"))(f.numpy_uint32).release();
  f.tracer = look_up("jax.core:Tracer");
  f.dict_key = look_up("jax.tree_util:DictKey");
  f.new_ref = look_up_since_0_12({"jax:new_ref"});
  f.partition_spec = look_up("jax.sharding:PartitionSpec");
  f.named_sharding = look_up("jax.sharding:NamedSharding");
  f.tree_flatten = look_up("jax.tree_util:tree_flatten");
  f.to_state_dict = look_up("flax.serialization:to_state_dict");
  f.from_state_dict = look_up("flax.serialization:from_state_dict");
  f.trace_context = look_for({"jax._src.config:trace_context"});
  f.entered_meshes = look_for({"jax._src.config:mesh_context_manager"});
  f.get_abstract_mesh = look_for({"jax.sharding:get_abstract_mesh"});
  f.concrete_mesh = look_for({"jax._src.mesh:get_concrete_mesh"});
  f.jit_function = look_up("jax.numpy:sin").type();
  f.custom_jvp = look_up("jax:custom_jvp");
  f.custom_vjp = look_up("jax:custom_vjp");
  f.ufunc = look_up("jax.numpy:ufunc");
  f.numpy_dtype = look_up("numpy:dtype");
  f.mesh = look_up("jax.sharding:Mesh");
  f.abstract_mesh = look_up("jax.sharding:AbstractMesh");
  f.hashable_mapping =
      look_for_class({"flax.nnx.graphlib:HashableMapping", "flax.nnx.graph:HashableMapping"});
  f.trace_state = look_for({"flax.nnx.tracers:TraceState"});
  f.eval_shape = look_up("jax:eval_shape");
  f.random_key = look_up("jax.random:key");
  f.make_jaxpr = look_up("jax:make_jaxpr");
  f.dce_jaxpr = look_for({"jax.interpreters.partial_eval:dce_jaxpr"});
  f.closed_jaxpr = look_for({"jax.extend.core:ClosedJaxpr"});
  f.jit = look_up("jax:jit");
  f.type_of = look_for({"jax:typeof"});
  f.pytree_constructor = look_for({"flax.nnx.pytreelib:_graph_node_meta_call"});
  f.fold_in = look_up("jax.random:fold_in");
  f.lax_add = look_up("jax.lax:add");
  f.add_primitive = look_up("jax.lax:add_p");
  f.jaxpr_tracer = look_for({"jax._src.interpreters.partial_eval:DynamicJaxprTracer"});
  f.source_info = look_for({"jax._src.source_info_util:current"});
  f.literal = look_for({"jax.extend.core:Literal"});
  f.compile_time_eval = look_up("jax:ensure_compile_time_eval");
  f.asarray = look_up("jax.numpy:asarray");
  f.issubdtype = look_up("jax.numpy:issubdtype");
  f.inexact = look_up("jax.numpy:inexact");
  f.shape_dtype_struct = look_up("jax:ShapeDtypeStruct");
  f.jax_config = look_up("jax:config");
  f.enum_type = look_up("enum:Enum");
  f.partial = look_up("functools:partial");
  f.defaultdict = look_up("collections:defaultdict");
  f.copy = look_up("copy:copy");
  f.warn = look_up("warnings:warn");

  if (!f.jax_pytree_registry.is_valid()) f.jax_pytree_registry = nb::dict().release();
  f.hijax_key = required_key(f, {"hijax", "is_hijax"});
  f.ref_key = required_key(f, {"ref", "has_ref"});
  f.sharding_key = sharding_key_of(f);
  f.boxes_exclude_required = version_at_least(version_of("flax"), {0, 12, 11});
  return f;
}

}  // namespace

const Facade& facade() {
  static constinit py::Once<const Facade> table;  // immortal: see the header
  return table.get(load);
}

}  // namespace nnx_wrappers::upstream
