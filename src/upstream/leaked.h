// The trace that an object of NNX was made in, and leaked tracers.
//
// A tracer leaks if a closure still holds it, or a module with it, after the transformation that
// made it (jax.lax.scan, nnx.vmap) has ended. JAX raises an error if a program computes with one.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The flax.nnx.tracers.TraceState of a Variable or an nnx.Pytree. An invalid object for all other
// objects, and for a Pytree whose constructor did not run.
nb::object trace_state_of(nb::handle object);

// True if this TraceState is that of the current trace.
bool is_current_trace(nb::handle trace_state);

// The trace that is the current one when the object is made.
class CurrentTrace {
 public:
  CurrentTrace();

  // The answer of is_current_trace while the trace is the current one.
  bool has_made(nb::handle trace_state) const;

 private:
  nb::object reference_;  // JAX's weak reference to it; invalid if JAX does not show it
};

// True if Flax lets the current trace change the object: it was made in this trace, or has no
// TraceState.
bool may_change_in_current_trace(nb::handle object);

// True if JAX is tracing: operations become equations of a jaxpr and are not computed.
bool is_tracing();

// True if JAX stages: the innermost trace makes a jaxpr, and each operation becomes an equation of
// it. False in the trace of a vmap or a grad inside of it.
bool is_staging();

// The innermost trace if it stages, else an invalid object.
nb::object staging_trace();

// True if the trace of this TraceState ran inside the current one.
bool is_leaked(nb::handle trace_state);

// The value (a pytree), with each leaked tracer replaced by a jax.ShapeDtypeStruct. That has the
// shape and the dtype, holds no trace, and a program that computes with it raises an error too.
nb::object without_leaked(nb::handle value);

}  // namespace nnx_wrappers::upstream
