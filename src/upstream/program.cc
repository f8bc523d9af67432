#include "upstream/program.h"

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/equations.h"
#include "upstream/facade.h"

namespace nnx_wrappers::upstream {

nb::object trace_program(const nb::object& function, const nb::tuple& abstract_inputs) {
  return py::call(facade().make_jaxpr(function), abstract_inputs, nb::dict());
}

Reuse reuse_of(nb::handle program) {
  if (nb::len(nb::object(program.attr("effects"))) != 0) return {"a constructor with effects"};
  EquationSearch search;
  for (const nb::object& equation : py::elements(program.attr("jaxpr").attr("eqns")))
    search.add(equation);
  if (search.calls_back()) return {"a constructor that calls back into Python"};
  for (const nb::object& constant : constants(program)) {
    if (is_tracer(constant)) return {"a constructor that uses values of an outer trace"};
  }
  return {"", search.may_have_entered_mesh()};
}

std::vector<nb::object> output_avals(nb::handle program) {
  return py::elements(program.attr("out_avals"));
}

std::vector<nb::object> constants(nb::handle program) {
  return py::elements(program.attr("consts"));
}

Pruned prune(nb::handle program, const std::vector<bool>& needed_outputs) {
  nb::list needed;
  for (const bool output : needed_outputs) needed.append(nb::bool_(output));
  const nb::object result = facade().dce_jaxpr(program.attr("jaxpr"), needed);
  Pruned pruned;
  // Read before the call: within it nanobind would read the second one after the first has failed.
  const nb::object kept = result[0];
  const nb::object constants = program.attr("consts");
  pruned.program = facade().closed_jaxpr(kept, constants);
  for (const nb::object& used : py::elements(result[1])) {
    pruned.used_inputs.push_back(py::truthy(used));
  }
  return pruned;
}

nb::object jitted(const std::shared_ptr<const EquationList>& equations) {
  const auto run = [equations](const nb::args& inputs) {
    nb::list outputs;
    for (const nb::object& output : equations->run(py::elements(inputs))) outputs.append(output);
    return outputs;
  };
  // jax.jit wants an object of Python.
  return facade().jit(facade().partial(nb::cpp_function(run)));
}

nb::object copied_value(nb::handle value) {
  if (is_jax_array(value)) return nb::borrow(value);
  if (py::is_subtype(value.type(), facade().numpy_array)) return value.attr("copy")();
  const nb::object flattened = facade().tree_flatten(value);
  nb::list leaves;
  for (const nb::object& leaf : py::elements(flattened[0])) {
    leaves.append(
        py::is_subtype(leaf.type(), facade().numpy_array) ? nb::object(leaf.attr("copy")()) : leaf);
  }
  return flattened[1].attr("unflatten")(leaves);
}

}  // namespace nnx_wrappers::upstream
