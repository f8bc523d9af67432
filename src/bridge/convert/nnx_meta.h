// The bodies of the methods of the Python class nnx_wrappers.NNXMeta (a subclass of
// Flax's): the Linen box that keeps what an nnx.Variable says about its value. All need
// the GIL, borrow arguments, return owned objects, and leave the box they are given as
// it is.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// The box after a transformation added an axis at `index`: the sharding names and
// every tuple named in `params` gain an entry, then on_add_axis hooks run.
// `params` is the transformation's metadata_params; without 'partition_name' the
// new axis is unnamed (None). A negative index counts from the end of the result.
nanobind::object nnx_meta_add_axis(nanobind::handle box, long index, nanobind::handle params);

// The inverse of nnx_meta_add_axis. Throws ValueError if the axis at `index` does
// not have the name that `params` gives.
nanobind::object nnx_meta_remove_axis(nanobind::handle box, long index, nanobind::handle params);

// The PartitionSpec of the box: its axis names as they are. Unlike Flax's, it does not depend on
// the logical axis rules around the call, so that nn.logical_to_mesh_sharding turns it into mesh
// axes, as the spec of an nn.LogicallyPartitioned. Outside of such rules a box with rules of its
// own answers the mesh axes that these give. A NamedSharding gives its own spec; a box without
// names gives an empty spec, and None where the value has no shape.
nanobind::object nnx_meta_partition_spec(nanobind::handle box);

// The Variable that the box describes: its type, value and metadata.
nanobind::object nnx_meta_to_variable(nanobind::handle box);

}  // namespace nnx_wrappers::bridge
