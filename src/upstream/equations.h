// Equations of programs, one by one.
#pragma once

#include <nanobind/nanobind.h>

#include <unordered_set>
#include <vector>

#include "py/identity_set.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// What an equation of a jaxpr does, or one of a trace that is not yet a jaxpr, without its inputs
// and outputs.
class Operation {
 public:
  explicit Operation(nb::handle equation);

  // Runs it in the current trace.
  std::vector<nb::object> run(const nb::list& inputs) const;

 private:
  nb::object primitive_;
  nb::object params_;
  nb::object context_;  // settings under which it was traced
};

// Tells of equations whether they, or those of a jaxpr inside them, call back into Python.
class CallbackSearch {
 public:
  bool calls_back(nb::handle equation);

 private:
  py::IdentitySet seen_;                    // jaxprs that do not; many equations share one
  std::unordered_set<PyObject*> harmless_;  // primitives that neither call back nor run a jaxpr
};

// True for a value that a jaxpr holds itself, and no variable.
bool is_literal(nb::handle atom);

// Zero, as the counter of a stream begins.
nb::object zero_count();

// The outputs of a closed jaxpr outside of every trace, so that they are concrete arrays. Counters
// are added up without JAX; among the inputs they are what zero_count returns.
std::vector<nb::object> evaluate_concretely(nb::handle program, const nb::tuple& inputs);

}  // namespace nnx_wrappers::upstream
