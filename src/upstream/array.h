// Tests for arrays, tracers and refs. `isinstance(x, jax.Array)` runs Python, in a metaclass; for
// common types these tests run none.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// `isinstance(object, jax.Array)`: arrays, random keys and tracers.
bool is_jax_array(nb::handle object);

// The shape of a jax.Array.
nb::object shape_of(nb::handle array);

// True for a jax.Array or a numpy array.
bool is_array(nb::handle object);

// True for an array of JAX whose buffers are gone.
bool is_deleted(nb::handle array);

// True for a jax.Ref (an array ref), traced ones included.
bool is_array_ref(nb::handle object);

// True for a tracer of any trace.
bool is_tracer(nb::handle object);

}  // namespace nnx_wrappers::upstream
