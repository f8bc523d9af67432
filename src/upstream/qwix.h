// Qwix, which quantizes by intercepting functions of JAX: whether it does so in this
// thread. Never imports it; its private names are here only.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The interceptors that are installed in this thread, in the order in which they apply, as
// a tuple of (id, enabled, Interceptor). An invalid object if there are none, at the cost of
// one look-up in a dict where Qwix has not been imported. Throws ImportError if the Qwix
// that runs the model has other private names.
//
// An id is another interceptor's once the Interceptor is gone: what is kept by id must
// hold on to the Interceptor too.
nb::object qwix_interceptors();

// The part of `interceptors` that one can compare: (id, enabled) of each.
nb::object interceptor_ids(nb::handle interceptors);

// Forgets how many operations Qwix has counted for an NNX module.
void forget_op_counts(nb::handle nnx_module);

// Until `leave`, the path of the Linen module that runs in this thread has one step more.
// Does nothing if none runs, or if it is bound to no scope.
class PathStep {
 public:
  explicit PathStep(nb::handle name);
  ~PathStep();  // leaves where that has not been done, and then swallows errors

  void leave();

  PathStep(const PathStep&) = delete;
  PathStep& operator=(const PathStep&) = delete;

 private:
  nb::object scope_;
  nb::object path_before_;
};

}  // namespace nnx_wrappers::upstream
