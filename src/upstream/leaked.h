// The trace that an object of NNX was made in; and what leaks from an inner transformation
// (jax.lax.scan, nnx.vmap) of the present trace: modules and tracers of its trace that closures
// still hold after it has ended. JAX raises an error when a leaked tracer is computed with.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The flax.nnx.tracers.TraceState of a Variable or an nnx.Pytree, or an invalid object: other
// objects have none, nor has a Pytree whose constructor did not run.
nb::object trace_state_of(nb::handle object);

// True if this TraceState is that of the present trace.
bool is_present(nb::handle trace_state);

// True if the present trace is one: values are computed by a program, not now.
bool is_traced();

// True if the trace of this flax.nnx.tracers.TraceState ran inside the present one.
bool is_leaked(nb::handle trace_state);

// The value (a pytree), with a jax.ShapeDtypeStruct for each leaked tracer: it has the
// shape and the dtype, cannot be computed with either, and holds no trace.
nb::object without_leaked(nb::handle value);

}  // namespace nnx_wrappers::upstream
