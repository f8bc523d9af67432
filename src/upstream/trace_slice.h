// The equations that a piece of code adds to the jaxpr that is being traced, as a function.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <string_view>
#include <vector>

#include "upstream/equation_list.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

class TraceSlice {
 public:
  // Begins with the next equation of the current trace.
  TraceSlice();

  // True if it is a slice of this trace.
  bool is_of(nb::handle trace) const;

  // True if the slice can be a function of these values: each is an input of the trace, the output
  // of an equation, and then no two are the same one; or it is a constant, and then the function is
  // one for this constant.
  bool accepts(const nb::tuple& inputs) const;

  // Ends with the last equation so far. The slice accepts values of the trace.
  void end();

  // Equations that hold no value of the trace, and can be added to another.
  struct Repeatable {
    std::shared_ptr<const EquationList> equations;  // null if they cannot
    bool may_have_entered_mesh = false;             // see EquationSearch
  };

  // Those of its equations that `outputs` depend on, as a function of `inputs`, which it accepts.
  // Nothing if they depend on other values of a trace, have effects or call back into Python.
  Repeatable repeatable(const nb::tuple& inputs, const std::vector<nb::object>& outputs) const;

  // The constant that a tracer of the current trace stands for, which the jaxpr holds itself;
  // invalid for other tracers.
  static nb::object constant_of(nb::handle tracer);

  // Empty, or why this version of JAX cannot do so.
  static std::string_view reason_not_supported();

 private:
  // The variable of a value of the trace; invalid for other values.
  nb::object variable_of(nb::handle value) const;
  // The constant that a value of the trace stands for; invalid for other values.
  nb::object constant_in_trace(nb::handle value) const;
  // Those that the jaxpr has variables for, by these.
  nb::dict constants() const;
  // The equations of the slice.
  std::vector<nb::object> equations() const;
  class Function;

  nb::object trace_;
  nb::object frame_;  // invalid if the current trace does not stage
  size_t first_ = 0;
  size_t end_ = 0;
};

}  // namespace nnx_wrappers::upstream
