// Equal constructor calls inside a constructor that is being planned. A model makes its twelve
// equal blocks by twelve equal calls. One of them is traced by itself: the first in a loop, else
// the second. Each later one is made from its template, and adds the equations of its program, with
// the keys and counts of its own streams, so that the program of the model is what it would have
// been.
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

  // True if a constructor that changes what others read has run once more than was asked for. Then
  // the module is not what it should be.
  bool has_disturbed() const { return has_disturbed_; }

 private:
  // What a call is given: everything but the one nnx.Rngs, which may be in several places.
  struct Call;
  // A call that was traced by itself.
  struct Traced;
  struct Known {
    bool is_refused = false;  // each call has to run
    std::shared_ptr<const Traced> traced;
  };

  nanobind::object answer(nanobind::handle type, const nanobind::tuple& args,
                          const nanobind::dict& kwargs);
  std::optional<Call> read(nanobind::handle type, const nanobind::tuple& args,
                           const nanobind::dict& kwargs) const;
  bool is_unchangeable(nanobind::handle argument) const;
  std::shared_ptr<const Traced> traced_alone(const Call& call);

  const graph::GuardRecorder& recorder_;
  nanobind::dict positions_;  // of calls in `known_`, by their keys
  std::vector<Known> known_;
  bool has_disturbed_ = false;
  upstream::ConstructorWatch watch_;
};

}  // namespace nnx_wrappers::bridge
