// Making Variables of given values: the value never changes on the way.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// The metadata of a Variable of `type` that is given none.
nanobind::dict default_metadata(nanobind::handle type);

// True if a value with this metadata may have to be moved to a mesh.
bool is_placed(const nanobind::dict& metadata);

// Whether an annotated value may be moved to the mesh that its annotation finds.
enum class Placement { kAllowed, kNever };

// A Variable of `type` with this value and metadata. Metadata that Flax requires is
// added where missing.
nanobind::object variable_from_metadata(nanobind::handle type, nanobind::handle value,
                                        const nanobind::dict& metadata,
                                        Placement placement = Placement::kAllowed);

}  // namespace nnx_wrappers::bridge
