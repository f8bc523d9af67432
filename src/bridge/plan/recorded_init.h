// The first of equal constructor calls of an `init`, recorded while it runs as it is written.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <optional>
#include <vector>

#include "bridge/plan/augment_check.h"
#include "bridge/plan/constructor_call.h"
#include "bridge/plan/module_capture.h"
#include "graph/guard_recorder.h"
#include "upstream/trace_slice.h"

namespace nnx_wrappers::bridge {

// What a recorded constructor has made, as something that can be made again. It outlives the trace.
struct InitProgram {
  std::shared_ptr<const ModuleCapture> captured;
  // From the keys of the streams to the outputs of `captured`.
  std::shared_ptr<const upstream::EquationList> equations;
};

class RecordedInit {
 public:
  // Starts recording. `call` is borrowed.
  explicit RecordedInit(const ConstructorCall& call);
  RecordedInit(const RecordedInit&) = delete;
  RecordedInit& operator=(const RecordedInit&) = delete;

  graph::GuardRecorder& recorder() { return recorder_; }

  // Runs the augment function.
  AugmentCheck& augment() { return augment_; }

  // Called when the keys are drawn, by the names of their streams, and before anything is made of
  // them: what the constructor adds to the jaxpr begins here.
  void begin(const nanobind::dict& keys);

  struct Finished {
    std::shared_ptr<const graph::GuardSet> guards;  // null if the call may not be planned
    std::shared_ptr<const InitProgram> program;     // null if a plan has to trace the constructor
  };

  // Ends recording. `module` is what the constructor has made.
  Finished finish(nanobind::handle module);

 private:
  upstream::TraceSlice::Repeatable repeatable_of(
      const upstream::TraceSlice& slice, const std::vector<nanobind::object>& outputs) const;

  const ConstructorCall& call_;
  graph::GuardRecorder recorder_;
  AugmentCheck augment_;
  nanobind::tuple keys_;
  std::optional<upstream::TraceSlice> slice_;  // from `begin` on
};

}  // namespace nnx_wrappers::bridge
