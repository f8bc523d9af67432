// One variable: nnx.Variable <-> Linen leaf.
//
// All functions need the GIL, may run user code (box methods, custom Variable
// types), borrow their arguments and return owned objects. They may be called
// from any thread that holds the GIL.
// Behaviour follows flax.nnx.bridge.variables; docs/differences.md has the rest.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// True if `variable` carries nothing but Flax's required metadata (hijax, ref,
// eager_sharding) and empty hooks. Throws TypeError unless it is an nnx.Variable.
bool is_vanilla_variable(nanobind::handle variable);

// The Linen leaf for a Variable: the raw value of a vanilla one, the Linen box it
// came from (metadata `linen_meta_type`), else an NNXMeta box. The value is the
// stored one: no get hook runs, an array ref is read. Throws TypeError unless it
// is an nnx.Variable, ValueError if the box type refuses the metadata.
nanobind::object to_linen_var(nanobind::handle variable);

// The collection name at the head of a JAX key path (a sequence whose first
// entry is a jax.tree_util.DictKey). Throws TypeError or ValueError otherwise.
nanobind::str get_col_name(nanobind::handle keypath);

// The Variable of the collection's type for a Linen leaf, raw or boxed. A new
// collection name registers a new Variable type, as in Flax. The value is kept as
// it is: no create hook runs; it is placed on a mesh only if its annotation names
// a mesh or one is set. Throws TypeError/ValueError for a name that is no str, a
// box without a value, or a box whose type contradicts the collection.
nanobind::object to_nnx_var(nanobind::handle collection, nanobind::handle leaf);

}  // namespace nnx_wrappers
