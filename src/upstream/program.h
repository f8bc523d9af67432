// Programs, that is closed jaxprs: tracing, pruning and running them.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <string_view>
#include <vector>

#include "upstream/equation_list.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// jax.make_jaxpr(function)(*abstract_inputs).
nb::object trace_program(const nb::object& function, const nb::tuple& abstract_inputs);

// Whether the program of a constructor may be run again.
struct Reuse {
  // Why it must not: it has effects, calls back into Python, or has tracers of an outer trace among
  // its constants. Empty if it may.
  std::string_view reason_against;
  bool may_have_entered_mesh = false;  // one of `with mesh:`; see EquationSearch
};
Reuse reuse_of(nb::handle program);

// The abstract values of the outputs.
std::vector<nb::object> output_avals(nb::handle program);

// The constants of a program.
std::vector<nb::object> constants(nb::handle program);

// The program with the needed outputs and the equations that they depend on.
struct Pruned {
  nb::object program;
  std::vector<bool> used_inputs;
};
Pruned prune(nb::handle program, const std::vector<bool>& needed_outputs);

// `jax.jit` of the equations, as a function of their inputs.
nb::object jitted(const std::shared_ptr<const EquationList>& equations);

// A copy of a value (a pytree) for one more module: containers and numpy arrays are copied, other
// arrays are shared.
nb::object copied_value(nb::handle value);

}  // namespace nnx_wrappers::upstream
