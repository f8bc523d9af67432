#include "upstream/leaked.h"

#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/dialect/dialect.h"
#include "upstream/facade.h"
#include "upstream/node.h"
#include "upstream/private_names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::upstream {

namespace {

// The weak reference in JAX's opaque trace state; an invalid object if it has none.
nb::object reference_of(nb::handle opaque) {
  return py::get_optional(opaque, nb::str("_trace_ref"));
}

// The trace of JAX's opaque trace state; an invalid object if it is gone.
nb::object trace_of(nb::handle opaque) {
  const nb::object reference = reference_of(opaque);
  if (!reference.is_valid()) return {};
  nb::object trace = reference();
  return trace.is_none() ? nb::object() : trace;
}

bool ran_inside_current_trace(nb::object trace) {
  const nb::object present = trace_of(facade().current_trace());
  while (trace.is_valid() && !trace.is_none()) {
    trace = py::get_optional(trace, nb::str("parent_trace"));
    if (trace.is_valid() && trace.is(present)) return true;
  }
  return false;
}

}  // namespace

nb::object trace_state_of(nb::handle object) {
  const PrivateNames& n = private_names();
  if (is_variable(object)) return py::get_optional(object, n.trace_state);
  if (!is_pytree(object)) return {};
  const nb::object state = py::dict_get(py::instance_dict(object), n.pytree_state);
  return state.is_valid() ? py::get(state, nb::str("trace_state")) : nb::object();
}

bool is_tracing() {
  const nb::object present = trace_of(facade().current_trace());
  return present.is_valid() && py::type_name(present.type()) != "EvalTrace";
}

nb::object staging_trace() {
  nb::object present = trace_of(facade().current_trace());
  const bool stages = present.is_valid() && py::type_name(present.type()) == "DynamicJaxprTrace";
  return stages ? present : nb::object();
}

bool is_staging() { return staging_trace().is_valid(); }

bool is_current_trace(nb::handle trace_state) {
  if (!py::truthy(trace_state.attr("is_valid")())) return false;
  // Up to Flax 0.10.4 is_valid answers True always, and a tracer may be left in a Variable.
  return !dialect().has_older_variables || py::equal(trace_state, facade().trace_state());
}

CurrentTrace::CurrentTrace() : reference_(reference_of(facade().current_trace())) {}

bool CurrentTrace::has_made(nb::handle trace_state) const {
  // Two weak references to one object are one object.
  const nb::object opaque = py::get_optional(trace_state, nb::str("jax_trace"));
  const bool is_same =
      reference_.is_valid() && opaque.is_valid() && reference_.is(reference_of(opaque));
  return (is_same && !dialect().has_older_variables) || is_current_trace(trace_state);
}

bool may_change_in_current_trace(nb::handle object) {
  const nb::object trace_state = trace_state_of(object);
  return !trace_state.is_valid() || is_current_trace(trace_state);
}

bool is_leaked(nb::handle trace_state) {
  return ran_inside_current_trace(trace_of(py::get(trace_state, nb::str("jax_trace"))));
}

nb::object without_leaked(nb::handle value) {
  const nb::object flattened = facade().tree_flatten(value);
  nb::list leaves;
  for (const nb::object& leaf : py::elements(flattened[0])) {
    if (is_tracer(leaf) && ran_inside_current_trace(py::get(leaf, nb::str("_trace")))) {
      const nb::object dtype = py::get(leaf, nb::str("dtype"));
      leaves.append(facade().shape_dtype_struct(shape_of(leaf), dtype));
    } else {
      leaves.append(leaf);
    }
  }
  return flattened[1].attr("unflatten")(leaves);
}

}  // namespace nnx_wrappers::upstream
