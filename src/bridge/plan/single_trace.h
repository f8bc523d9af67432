// A function that JAX traces once.
#pragma once

#include <memory>
#include <utility>

#include "nnx_wrappers/errors.h"

namespace nnx_wrappers::bridge {

// The function that JAX traces refers to local variables of its caller, and JAX may keep it. So it
// owns a copy of `is_pending`, which tells whether it may still be called: once, and while this
// object lives.
struct SingleTrace {
  std::shared_ptr<bool> is_pending = std::make_shared<bool>(true);
  SingleTrace() = default;
  ~SingleTrace() { *is_pending = false; }
  SingleTrace(const SingleTrace&) = delete;
  SingleTrace& operator=(const SingleTrace&) = delete;

  // Called by the function.
  static void begin(bool& is_pending) {
    if (!std::exchange(is_pending, false)) {
      throw InternalError("the trace of a constructor was run again");
    }
  }
};

}  // namespace nnx_wrappers::bridge
