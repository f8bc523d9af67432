// Equal constructor calls inside a constructor that is being recorded. A model makes its twelve
// equal blocks by twelve equal calls. The first runs as it is written, and shows that it changes
// nothing that others read. Each later one is made from the first one's template, and adds the
// equations that the first one has added, with the keys and counts of its own streams, so that the
// program of the model is what it would have been.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <optional>
#include <vector>

#include "bridge/plan/constructor_call.h"
#include "bridge/plan/rngs_state.h"
#include "graph/guard_recorder.h"
#include "upstream/constructor_watch.h"
#include "upstream/trace_slice.h"

namespace nnx_wrappers::bridge {

class RepeatedCalls {
 public:
  // Watches the constructors that this thread runs while `recorder` records. A call counts as equal
  // to an earlier one only while all that the code has read so far is unchanged.
  // `outermost` is the class that is constructed, which is called once.
  RepeatedCalls(nanobind::handle outermost, graph::GuardRecorder& recorder);
  ~RepeatedCalls();
  RepeatedCalls(const RepeatedCalls&) = delete;
  RepeatedCalls& operator=(const RepeatedCalls&) = delete;

  // The same, or null where all calls have to run: Qwix finds its modules by them, or the feature
  // is off.
  static std::unique_ptr<RepeatedCalls> watch(const ConstructorCall& call,
                                              graph::GuardRecorder& recorder);

 private:
  // What a call is given: everything but the one nnx.Rngs, which may be in several places.
  struct Call;
  // What a call has made, and by which equations.
  struct Traced;
  struct Known {
    bool is_refused = false;  // each call has to run
    std::shared_ptr<Traced> traced;
  };

  nanobind::object answer(nanobind::handle type, const nanobind::tuple& args,
                          const nanobind::dict& kwargs);
  std::optional<Call> read(nanobind::handle type, const nanobind::tuple& args,
                           const nanobind::dict& kwargs) const;
  bool append_key(nanobind::list& key, nanobind::handle value) const;
  std::shared_ptr<Traced> traced(const Call& call, nanobind::handle module,
                                 const upstream::TraceSlice& slice,
                                 const nanobind::tuple& before) const;

  nanobind::handle outermost_;
  nanobind::object trace_;  // in which the recorded constructor runs
  graph::GuardRecorder& recorder_;
  nanobind::dict positions_;  // of calls in `known_`, by their keys
  std::vector<Known> known_;
  size_t depth_ = 0;  // how many are running
  upstream::ConstructorWatch watch_;
};

}  // namespace nnx_wrappers::bridge
