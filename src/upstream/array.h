// What is an array, told without running Python for the types that are met all the
// time: jax.Array has a metaclass whose instance check is Python.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// isinstance(object, jax.Array): arrays, random keys, tracers.
bool is_jax_array(nb::handle object);

// The shape of a jax.Array.
nb::object shape_of(nb::handle array);

// is_jax_array, or a numpy array.
bool is_array(nb::handle object);

// True for a jax.Ref (array ref), traced ones included.
bool is_array_ref(nb::handle object);

// True for a tracer of any trace.
bool is_tracer(nb::handle object);

}  // namespace nnx_wrappers::upstream
