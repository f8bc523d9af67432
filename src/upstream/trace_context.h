// Parts of JAX's trace context that few constructors read: the named axes, those of an enclosing
// jax.vmap, and the meshes that are entered by `with mesh:`.
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

// The meshes that are entered by `with mesh:`, a tuple. None if JAX keeps them elsewhere. The
// abstract mesh, which `jax.set_mesh` and the trace of a `jax.shard_map` set, is another part of
// the context, and each equation has it.
nb::object entered_meshes();

// True for code that may read the entered meshes where an abstract mesh is set: it names what JAX
// keeps them in, and is none of the functions of JAX that do so for the old `pjit` alone.
bool reads_entered_meshes(nb::handle code, nb::handle globals);

// True for a function of the old `pjit`, which runs under the entered meshes.
bool runs_under_entered_meshes(nb::handle function);

// The mesh with devices that `jax.set_mesh` has set, which jax.jit puts into its equations. None if
// this version of JAX has none.
nb::object concrete_mesh();

// A trace context without the names and sizes of axes, and without the entered meshes if an
// abstract mesh is set: else JAX's own functions read them, and what jax.jit has traced already
// shows them without running. It still has axes that may matter otherwise, since JAX places what is
// mapped over them on a mesh, and whatever JAX keeps elsewhere.
nb::object without_axes_and_meshes(nb::handle trace_context);

}  // namespace nnx_wrappers::upstream
