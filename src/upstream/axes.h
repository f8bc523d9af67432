// The named axes of a trace, those of an enclosing jax.vmap, in JAX's trace context.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// What JAX knows of the named axes now, one object for equal axes. None if the trace context does
// not have it.
nb::object named_axes();

// True for the code of a function of JAX that reads the named axes: lax.axis_size, lax.psum and all
// others with an axis name ask one of these.
bool reads_named_axes(nb::handle code, nb::handle globals);

// A trace context without the names and sizes of axes. The same context if it may matter otherwise:
// if JAX places what is mapped over axes of a mesh, or has its axes elsewhere.
nb::object without_named_axes(nb::handle trace_context);

}  // namespace nnx_wrappers::upstream
