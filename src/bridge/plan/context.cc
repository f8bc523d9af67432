#include "nnx_wrappers/context.h"

#include "upstream/context_queries.h"
#include "upstream/linen.h"

namespace nnx_wrappers {

nanobind::object current_linen_module() {
  upstream::ContextQueries::note();
  return upstream::innermost_linen_module();
}

bool is_linen_initializing() {
  const nanobind::object module = current_linen_module();
  return !module.is_none() && upstream::is_initializing(module);
}

}  // namespace nnx_wrappers
