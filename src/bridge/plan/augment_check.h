// Finds out whether the augment function of a constructor call does nothing, whatever the name of
// the module. MaxText's adapts layers for one way of training, and returns all others as they are.
#pragma once

#include <nanobind/nanobind.h>

#include "bridge/plan/constructor_call.h"
#include "graph/guard_recorder.h"

namespace nnx_wrappers::bridge {

class AugmentCheck {
 public:
  // `recorder` records the constructor and the augment function of `call`. Borrows both.
  AugmentCheck(const ConstructorCall& call, const graph::GuardRecorder& recorder)
      : call_(call), recorder_(recorder) {}
  AugmentCheck(const AugmentCheck&) = delete;
  AugmentCheck& operator=(const AugmentCheck&) = delete;

  // What the augment function returns for the module that the constructor has made.
  nanobind::object run(const nanobind::object& module);

  // True if there was such a function, if it left the module as it was, and if it has not read the
  // name. Then it does the same for every name while what the recorder guards is unchanged.
  bool does_nothing() const { return does_nothing_; }

 private:
  const ConstructorCall& call_;
  const graph::GuardRecorder& recorder_;
  bool does_nothing_ = false;
};

}  // namespace nnx_wrappers::bridge
