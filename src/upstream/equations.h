// Equations of programs, one by one.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "py/identity_set.h"
#include "upstream/trace_context.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// What an equation of a jaxpr does, or one of a trace that is not yet a jaxpr, without its inputs
// and outputs.
class Operation {
 public:
  explicit Operation(nb::handle equation);

  // Runs it in the current trace.
  std::vector<nb::object> run(const nb::list& inputs) const;

  // Adds an equation of it by `emit`, the method of a trace that JAX adds its own by. `inputs` are
  // tracers of that trace whose abstract values are those of the equation.
  std::vector<nb::object> copy(nb::handle emit, const nb::list& inputs, nb::handle source) const;

  size_t outputs() const { return nb::len(avals_); }

 private:
  nb::object primitive_;
  nb::object params_;
  nb::object context_;  // settings under which it was traced
  nb::object effects_;
  nb::list avals_;  // of the outputs
};

// What equations depend on, and those of the jaxprs inside them, besides their inputs.
class EquationSearch {
 public:
  void add(nb::handle equation);

  // True if one calls back into Python.
  bool calls_back() const { return calls_back_; }

  // True if one may have a mesh that was entered by `with mesh:`. JAX gives such a mesh to a
  // with_sharding_constraint where no abstract mesh is set, and to the old `pjit`.
  bool may_have_entered_mesh() const { return may_have_entered_mesh_; }

 private:
  bool may_be_entered(nb::handle name, nb::handle parameter) const;

  py::IdentitySet seen_;              // jaxprs; many equations share one
  py::IdentitySet plain_primitives_;  // that neither call back nor run a jaxpr
  nb::object concrete_mesh_ = upstream::concrete_mesh();
  bool calls_back_ = false;
  bool may_have_entered_mesh_ = false;
};

// True for a value that a jaxpr holds itself, and no variable.
bool is_literal(nb::handle atom);

// Zero, as the counter of a stream begins.
nb::object zero_count();

// The outputs of a closed jaxpr outside of every trace, so that they are concrete arrays. Counters
// are added up without JAX; among the inputs they are what zero_count returns.
std::vector<nb::object> evaluate_concretely(nb::handle program, const nb::tuple& inputs);

}  // namespace nnx_wrappers::upstream
