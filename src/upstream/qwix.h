// Qwix, which quantizes a model by intercepting functions of JAX. Nothing here imports Qwix, and
// only this file has its private names.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The interceptors that are installed in this thread, in the order in which they apply: a tuple of
// (id, enabled, Interceptor). An invalid object if there are none; if Qwix has not been imported,
// that takes one look-up in a dict. Throws ImportError if a version of Qwix with other private
// names runs the model.
//
// An id may become another interceptor's once the Interceptor is gone, so whoever keeps an id must
// own the Interceptor too.
nb::object qwix_interceptors();

// The comparable part of `interceptors`: a tuple of (id, enabled).
nb::object interceptor_ids(nb::handle interceptors);

// Makes Qwix forget how many operations it has counted for an NNX module.
void forget_op_counts(nb::handle nnx_module);

// Appends `name` to the path of the Linen module that runs in this thread, until `leave`. Does
// nothing if none runs, or if it is unbound.
class PathStep {
 public:
  explicit PathStep(nb::handle name);
  ~PathStep();  // leaves if `leave` has not been called, and ignores errors

  void leave();

  PathStep(const PathStep&) = delete;
  PathStep& operator=(const PathStep&) = delete;

 private:
  nb::object scope_;
  nb::object path_before_;
};

}  // namespace nnx_wrappers::upstream
