// A function of a constructor call that JAX traces once, outside of every Linen module.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>

#include "bridge/plan/constructor_call.h"

namespace nnx_wrappers::bridge {

struct SingleTrace {
  nanobind::object program;            // a ClosedJaxpr; invalid if there is a reason
  std::string reason;                  // why the program must not be run again; empty if it may
  bool may_have_entered_mesh = false;  // see upstream::EquationSearch
};

// Traces `body` of `abstract_inputs`, which does what `call` says. JAX calls it once, or not at
// all. A BaseException that is no Exception passes through.
SingleTrace trace_once(const ConstructorCall& call,
                       const std::function<nanobind::object(const nanobind::args&)>& body,
                       const nanobind::tuple& abstract_inputs);

}  // namespace nnx_wrappers::bridge
