#include "bridge/plan/recorded_init.h"

#include <algorithm>
#include <utility>

#include "bridge/to_nnx/attributes.h"
#include "graph/walk.h"
#include "py/containers.h"
#include "upstream/feature_set.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

RecordedInit::RecordedInit(const ConstructorCall& call) : call_(call), augment_(call, recorder_) {
  add_roots(call, recorder_);
  recorder_.start();
}

void RecordedInit::begin(const nb::dict& keys) {
  nb::list given;
  for (const Stream& stream : call_.streams) {
    if (stream.key_type.is_valid()) given.append(keys[stream.name]);
  }
  keys_ = nb::tuple(given);
  slice_.emplace();
}

RecordedInit::Finished RecordedInit::finish(nb::handle module) {
  if (slice_) slice_->end();
  const bool makes_linen_modules = recorder_.linen_modules_made() != 0;
  std::shared_ptr<graph::GuardSet> guards = recorder_.finish().guards;
  const bool is_for_all_names = call_.augment_fn.is_none() || augment_.does_nothing();
  if (guards == nullptr || !is_for_all_names) return {};
  if (std::ranges::any_of(graph::pytrees_of(module), is_to_nnx)) return {};
  const auto captured = std::make_shared<ModuleCapture>();
  try {
    const nb::tuple outputs = captured->copy(module, {call_.args, call_.kwargs}, recorder_);
    upstream::TraceSlice::Repeatable made;
    // A Linen module knows the one that runs the code, and in a plan that is none.
    if (slice_ && !makes_linen_modules && !captured->moves_linen_modules())
      made = repeatable_of(*slice_, py::elements(outputs));
    if (made.equations == nullptr) return {std::move(guards), nullptr};
    if (made.may_have_entered_mesh) guards->depend_on_entered_meshes();
    return {std::move(guards),
            std::make_shared<InitProgram>(InitProgram{captured, made.equations})};
  } catch (const graph::Refusal&) {
    return {};
  }
}

// From the keys to these outputs; invalid if they depend on more than the keys.
upstream::TraceSlice::Repeatable RecordedInit::repeatable_of(
    const upstream::TraceSlice& slice, const std::vector<nb::object>& outputs) const {
  if (!upstream::has(upstream::Feature::kRepeatedCalls)) return {};
  const auto is_constant = [](const nb::object& key) {
    return upstream::TraceSlice::constant_of(key).is_valid();
  };
  const bool accepts =
      slice.accepts(keys_) && std::ranges::none_of(py::elements(keys_), is_constant);
  if (!accepts) return {};
  return slice.repeatable(keys_, outputs);
}

}  // namespace nnx_wrappers::bridge
