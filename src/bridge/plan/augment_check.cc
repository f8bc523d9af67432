#include "bridge/plan/augment_check.h"

#include <optional>

#include "bridge/plan/module_capture.h"
#include "py/parameter_watch.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

nb::object AugmentCheck::run(const nb::object& module) {
  const py::ParameterWatch name(call_.augment_fn, 1);
  if (!name.is_watching()) return augmented(call_, module);
  std::optional<ModuleState> before;
  try {
    before.emplace(module, ModuleState::Objects{call_.args, call_.kwargs}, recorder_);
  } catch (const graph::Refusal&) {
    return augmented(call_, module);  // such a module has no plan
  }
  nb::object returned = augmented(call_, module);
  does_nothing_ = name.is_unread() && !recorder_.has_read_locals() && returned.is(module) &&
                  before->is_unchanged();
  return returned;
}

}  // namespace nnx_wrappers::bridge
