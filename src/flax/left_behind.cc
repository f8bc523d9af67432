#include "flax/left_behind.h"

#include "flax/array.h"
#include "flax/facade.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::flax {

namespace {

// The trace that JAX's opaque trace state stands for; invalid if it is gone.
nb::object trace_of(nb::handle opaque) {
  const nb::object reference = py::get_optional(opaque, nb::str("_trace_ref"));
  if (!reference.is_valid()) return {};
  nb::object trace = reference();
  return trace.is_none() ? nb::object() : trace;
}

bool ran_inside_the_present(nb::object trace) {
  const nb::object present = trace_of(facade().current_trace());
  while (trace.is_valid() && !trace.is_none()) {
    trace = py::get_optional(trace, nb::str("parent_trace"));
    if (trace.is_valid() && trace.is(present)) return true;
  }
  return false;
}

}  // namespace

bool is_left_behind(nb::handle trace_state) {
  return ran_inside_the_present(trace_of(py::get(trace_state, nb::str("jax_trace"))));
}

nb::object without_left_behind(nb::handle value) {
  const nb::object flattened = facade().tree_flatten(value);
  nb::list leaves;
  for (const nb::object& leaf : py::elements(flattened[0])) {
    if (is_tracer(leaf) && ran_inside_the_present(py::get(leaf, nb::str("_trace")))) {
      const nb::object dtype = py::get(leaf, nb::str("dtype"));
      leaves.append(facade().shape_dtype_struct(shape_of(leaf), dtype));
    } else {
      leaves.append(leaf);
    }
  }
  return flattened[1].attr("unflatten")(leaves);
}

}  // namespace nnx_wrappers::flax
