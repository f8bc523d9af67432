// Equations that are added to a trace again, with other inputs.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <utility>
#include <vector>

#include "upstream/equations.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// Its values are numbered: first the inputs, then the outputs of the equations.
class EquationList {
 public:
  // A value: one with a number, or a constant.
  struct Operand {
    nb::object constant;  // an array, or a literal of a jaxpr; invalid for a value with a number
    size_t number = 0;
  };

  // With the abstract value of each input; an invalid one for an input that nothing depends on.
  // `source` is the jaxpr, or the frame of the trace, that the equations are from. If it is high,
  // with operations that a program has defined for itself, equations are not copied: JAX notes
  // where there are such, to rewrite them later.
  EquationList(std::vector<nb::object> avals, nb::handle source);

  // The equations of a closed jaxpr without effects. The inputs from `bound` on are zero: counts of
  // streams. So the list has no such inputs.
  static EquationList of_program(nb::handle program, size_t bound);

  // Adds an equation, of a jaxpr or of a trace. Its outputs have the next numbers.
  void add(nb::handle equation, std::vector<Operand> inputs);

  // Adds what the function returns.
  void add_output(Operand output) { outputs_.push_back(std::move(output)); }

  // How many values there are.
  size_t values() const { return values_; }

  // The outputs for these inputs. In a trace that stages the equations are copied if the inputs
  // have these abstract values; else they are run one by one. The context of the trace is that of
  // the equations. All outputs are arrays: a literal as the operation that made it would have done.
  std::vector<nb::object> run(const std::vector<nb::object>& inputs) const;

 private:
  struct Step {
    Operation operation;
    std::vector<Operand> inputs;
  };
  class Copier;

  bool fits(const std::vector<nb::object>& inputs) const;

  std::vector<nb::object> avals_;
  bool may_be_copied_;
  size_t values_;
  std::vector<Step> steps_;
  std::vector<Operand> outputs_;
};

}  // namespace nnx_wrappers::upstream
