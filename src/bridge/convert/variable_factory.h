// Makes Variables with given values, which are not changed.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// The metadata of a Variable of `type` that was given none.
nanobind::dict default_metadata(nanobind::handle type);

// True if the metadata have a sharding annotation, by which the value may be moved to a mesh.
bool has_sharding(const nanobind::dict& metadata);

// The sharding annotation in the metadata, also under a name that Flax has deprecated; None if
// there is none.
nanobind::object sharding_of(const nanobind::dict& metadata);

// Whether a value with a sharding annotation may be moved to the annotation's mesh.
enum class Placement { kAllowed, kNever };

// A Variable of `type` with this value and metadata. Required entries that are missing are added.
nanobind::object variable_from_metadata(nanobind::handle type, nanobind::handle value,
                                        const nanobind::dict& metadata,
                                        Placement placement = Placement::kAllowed);

}  // namespace nnx_wrappers::bridge
