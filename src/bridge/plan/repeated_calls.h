// Equal constructor calls inside a constructor that is being recorded. A model makes its twelve
// equal blocks by twelve equal calls. The first runs as it is written, and shows that it changes
// nothing that others read. The second is traced by itself. Each later one is made from the second
// one's template, and adds the equations of its program, with the keys and counts of its own
// streams, so that the program of the model is what it would have been. Of single layers, whose
// constructors are quick, the first calls run before one is traced.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <optional>
#include <vector>

#include "bridge/plan/rngs_state.h"
#include "graph/guard_recorder.h"
#include "upstream/constructor_watch.h"

namespace nnx_wrappers::bridge {

class RepeatedCalls {
 public:
  // Watches the constructors that this thread runs while `recorder` records. A call counts as equal
  // to an earlier one only while all that the code has read so far is unchanged.
  explicit RepeatedCalls(const graph::GuardRecorder& recorder);
  ~RepeatedCalls();
  RepeatedCalls(const RepeatedCalls&) = delete;
  RepeatedCalls& operator=(const RepeatedCalls&) = delete;

  // The same, or null where all calls have to run: Qwix finds its modules by them, or the feature
  // is off.
  static std::unique_ptr<RepeatedCalls> watch(bool qwix_intercepts,
                                              const graph::GuardRecorder& recorder);

 private:
  // What a call is given: everything but the one nnx.Rngs, which may be in several places.
  struct Call;
  // A call that was traced by itself.
  struct Traced;
  struct Known {
    size_t runs = 0;           // that were not made from a template
    bool is_verified = false;  // a run has shown that it may be repeated
    bool is_refused = false;   // each call has to run
    std::shared_ptr<const Traced> traced;
  };

  // The runs of a constructor that makes no parts, before one is traced by itself.
  static constexpr size_t kRunsOfLayers = 4;

  nanobind::object answer(nanobind::handle type, const nanobind::tuple& args,
                          const nanobind::dict& kwargs);
  std::optional<Call> read(nanobind::handle type, const nanobind::tuple& args,
                           const nanobind::dict& kwargs) const;
  bool append_key(nanobind::list& key, nanobind::handle value) const;
  bool may_be_repeated(const Call& call, nanobind::handle module) const;
  std::shared_ptr<const Traced> traced_alone(const Call& call) const;

  const graph::GuardRecorder& recorder_;
  nanobind::dict positions_;  // of calls in `known_`, by their keys
  std::vector<Known> known_;
  size_t constructions_ = 0;  // how many constructors have run
  upstream::ConstructorWatch watch_;
};

}  // namespace nnx_wrappers::bridge
