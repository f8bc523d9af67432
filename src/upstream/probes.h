// Probes: one object made as Flax makes it and one as this library does, compared field by field.
// Each returns why the two differ, or an empty text. They compute nothing on a device, and leave no
// trace in the program. A probe may raise where a name is missing; that counts as a difference.
#pragma once

#include <string>

namespace nnx_wrappers::upstream {

std::string probe_fast_variables();
std::string probe_fast_walk();
std::string probe_native_scopes();
std::string probe_lifted_scopes();
std::string probe_lazy_keys();
std::string probe_guards();
std::string probe_plans();
std::string probe_repeated_calls();

}  // namespace nnx_wrappers::upstream
