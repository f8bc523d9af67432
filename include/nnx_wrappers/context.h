// Where the running code stands in Linen. Needs the GIL; answers for the calling
// thread only, as Linen's context is thread-local.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// The innermost Linen module whose method is running, or None.
nanobind::object current_linen_module();

// True if that module is being initialized (`init`), False outside Linen.
bool is_linen_initializing();

}  // namespace nnx_wrappers
