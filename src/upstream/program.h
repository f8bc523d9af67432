// Programs that JAX traced (closed jaxprs): made, pruned, run.
#pragma once

#include <nanobind/nanobind.h>

#include <string_view>
#include <vector>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// jax.make_jaxpr(function)(*abstract_inputs).
nb::object trace_program(const nb::object& function, const nb::tuple& abstract_inputs);

// Why the program must not be kept: effects, or tracers of an outer trace among its
// constants. Empty if it may.
std::string_view reason_not_reusable(nb::handle program);

std::vector<nb::object> output_avals(nb::handle program);

// The program with only the outputs that are needed, and what they depend on.
struct Pruned {
  nb::object program;
  std::vector<bool> used_inputs;
};
Pruned prune(nb::handle program, const std::vector<bool>& needed_outputs);

// The program as a function of its inputs, equation by equation.
nb::object as_function(nb::handle program);

// jax.jit(function).
nb::object compiled(const nb::object& function);

// function() outside of every trace: concrete arrays.
std::vector<nb::object> evaluate_now(const nb::object& function);

// function(*inputs) in the present trace. An output that is a literal of the program
// comes as an array, as the operation that made it would have given it.
std::vector<nb::object> evaluate(const nb::object& function, const nb::tuple& inputs);

// A value that instances may hold each for itself: arrays shared, containers and
// numpy arrays copied.
nb::object copied_value(nb::handle value);

}  // namespace nnx_wrappers::upstream
