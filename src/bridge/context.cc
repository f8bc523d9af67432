#include "nnx_wrappers/context.h"

#include "bridge/context_questions.h"
#include "flax/linen.h"

namespace nnx_wrappers {

nanobind::object current_linen_module() {
  bridge::ContextQuestions::note();
  return flax::innermost_linen_module();
}

bool is_linen_initializing() {
  const nanobind::object module = current_linen_module();
  return !module.is_none() && flax::is_initializing(module);
}

}  // namespace nnx_wrappers
