// ConstructionPlan::augment.
#include <algorithm>
#include <utility>

#include "bridge/plan/construction_plan.h"
#include "bridge/plan/single_trace.h"
#include "py/containers.h"
#include "py/parameter_watch.h"
#include "upstream/program.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

ConstructionPlan::Augmented ConstructionPlan::augment(const ConstructorCall& call) const {
  graph::GuardRecorder recorder;
  add_roots(call, recorder);
  Augmented found{{}, true};
  bool is_same = false;
  const auto augment_traced = [&](const nb::args& traced) -> nb::object {
    const std::vector<nb::object> outputs = py::elements(traced);
    size_t next = 0;
    const nb::object made = captured_.instantiate_from(outputs, next);
    const py::ParameterWatch name(call.augment_fn, 1);
    recorder.start();
    const nb::object module = augmented(call, made);
    found.dependencies = recorder.finish();
    found.reads_name = !name.is_unread() || recorder.may_read_frames();
    ModuleCapture after;
    try {
      const nb::tuple values =
          after.take_apart_again(module, {call.args, call.kwargs}, recorder, captured_);
      is_same = captured_.is_same_as(after) &&
                std::ranges::equal(
                    outputs, py::elements(values),
                    [](const nb::object& one, const nb::object& other) { return one.is(other); });
    } catch (const graph::Refusal&) {
      is_same = false;
    }
    return nb::tuple();
  };
  nb::list values;
  for (const nb::object& aval : upstream::output_avals(program_)) values.append(aval);
  const SingleTrace trace = trace_once(call, augment_traced, nb::tuple(values));
  if (!is_same || !trace.reason.empty()) found.dependencies.guards = nullptr;
  return found;
}

}  // namespace nnx_wrappers::bridge
