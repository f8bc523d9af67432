// Making Variables of given values: the value never changes on the way.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::bridge {

// to_nnx_var with the name of the call and the path in errors (`where`).
nanobind::object make_variable(nanobind::handle collection, nanobind::handle leaf,
                               const std::string& where);

// A Variable of `type` around a value that carries no metadata.
nanobind::object variable_from_raw(nanobind::handle type, nanobind::handle value);

// Whether an annotated value may be moved to the mesh that its annotation finds.
enum class Placement { kAllowed, kNever };

// A Variable of `type` with this value and metadata. Metadata that Flax requires is
// added where missing.
nanobind::object variable_from_metadata(nanobind::handle type, nanobind::handle value,
                                        const nanobind::dict& metadata,
                                        Placement placement = Placement::kAllowed);

}  // namespace nnx_wrappers::bridge
