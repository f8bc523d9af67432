#include "upstream/equations.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <unordered_map>

#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/names.h"
#include "upstream/origin.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

Operation::Operation(nb::handle equation)
    : primitive_(py::get(equation, private_names().primitive)),
      params_(py::get(equation, private_names().params)),
      context_(py::get(equation, private_names().ctx)),
      effects_(py::get(equation, private_names().effects)) {
  for (const nb::object& output : py::elements(py::get(equation, private_names().outvars)))
    avals_.append(py::get(output, private_names().aval));
}

std::vector<nb::object> Operation::copy(nb::handle emit, const nb::list& inputs,
                                        nb::handle source) const {
  return py::elements(emit(inputs, avals_, primitive_, params_, effects_, source, context_));
}

std::vector<nb::object> Operation::run(const nb::list& inputs) const {
  const PrivateNames& n = private_names();
  // The parameters, or before JAX 0.10 functions among the inputs and the parameters.
  const nb::object bound = py::get(primitive_, n.get_bind_params)(params_);
  const bool is_pair = PyTuple_CheckExact(bound.ptr()) != 0;
  nb::list given;
  if (is_pair) {
    for (const nb::object& function : py::elements(bound[0])) given.append(function);
  }
  for (const nb::object& input : py::elements(inputs)) given.append(input);
  const nb::dict params = py::to_dict(is_pair ? nb::object(bound[1]) : bound);
  const nb::object manager = py::get(context_, n.manager);
  manager.attr("__enter__")();
  nb::object outputs;
  try {
    outputs = py::call(py::get(primitive_, n.bind), nb::tuple(given), params);
  } catch (nb::python_error& error) {
    manager.attr("__exit__")(error.type(), error.value(), error.traceback());
    throw;
  }
  manager.attr("__exit__")(nb::none(), nb::none(), nb::none());
  if (py::truthy(py::get(primitive_, n.multiple_results))) return py::elements(outputs);
  return {outputs};
}

// True for a mesh with devices, or shardings with one, but for the one that jax.jit takes where it
// is called: that of jax.set_mesh, or none.
// The sharding of a with_sharding_constraint is not asked: where it has an entered mesh, the
// constraint has it too.
bool EquationSearch::may_be_entered(nb::handle name, nb::handle parameter) const {
  const Facade& f = facade();
  if (py::is_subtype(parameter.type(), f.mesh))
    return !parameter.is(concrete_mesh_) || text_view(name) != "ctx_mesh";
  if (PyTuple_CheckExact(parameter.ptr()) == 0) return false;
  return std::ranges::any_of(py::borrowed_elements(parameter), [&](PyObject* part) {
    const nb::handle sharding = part;
    return sharding.type().is(f.named_sharding) &&
           py::is_subtype(py::get(sharding, names().mesh).type(), f.mesh);
  });
}

void EquationSearch::add(nb::handle equation) {
  const py::RecursionGuard guard(" while reading a program");
  const PrivateNames& n = private_names();
  const nb::object primitive = py::get(equation, n.primitive);
  const nb::object params = py::get(equation, n.params);
  for (const auto& [key, value] : py::borrowed_items(params))
    may_have_entered_mesh_ = may_have_entered_mesh_ || may_be_entered(key, value);
  if (plain_primitives_.contains(primitive)) return;
  calls_back_ = calls_back_ || py::utf8(py::get(primitive, n.name)).ends_with("callback");
  // All primitives that run a jaxpr have a list of results.
  if (!calls_back_ && !py::truthy(py::get(primitive, n.multiple_results))) {
    plain_primitives_.insert(primitive);
    return;
  }
  for (const auto& [key, value] : py::mapping_items(params)) {
    const bool is_sequence = PyTuple_CheckExact(value.ptr()) || PyList_CheckExact(value.ptr());
    for (const nb::object& part : is_sequence ? py::elements(value) : std::vector{value}) {
      nb::object inner = py::get_optional(part, n.jaxpr);
      if (!inner.is_valid()) inner = part;
      const nb::object equations = py::get_optional(inner, n.eqns);
      if (!equations.is_valid() || !seen_.insert(inner)) continue;
      for (const nb::object& one : py::elements(equations)) add(one);
    }
  }
}

bool is_literal(nb::handle atom) { return atom.type().is(facade().literal); }

nb::object zero_count() { return facade().numpy_uint32(0); }

namespace {

// True for the abstract value of a counter: uint32, and no axes.
bool is_count(nb::handle aval) {
  const PrivateNames& n = private_names();
  return nb::len(py::get(aval, n.shape)) == 0 && py::get(aval, n.dtype).equal(facade().count_dtype);
}

class ConcreteEvaluation {
 public:
  std::vector<nb::object> run(nb::handle program, const nb::tuple& inputs) {
    const PrivateNames& n = private_names();
    const nb::object jaxpr = py::get(program, n.jaxpr);
    write_all(py::get(jaxpr, n.constvars), py::elements(py::get(program, n.consts)));
    write_all(py::get(jaxpr, n.invars), py::elements(inputs));
    for (const nb::object& equation : py::elements(py::get(jaxpr, n.eqns))) {
      if (!add_counts(equation)) run_equation(equation);
    }
    std::vector<nb::object> outputs;
    for (const nb::object& atom : py::elements(py::get(jaxpr, n.outvars)))
      outputs.push_back(array_of(atom));
    return outputs;
  }

 private:
  struct Value {
    nb::object object;  // invalid for a count that was added up
    std::optional<std::uint32_t> count;
  };

  void write_all(nb::handle variables, const std::vector<nb::object>& values) {
    size_t next = 0;
    for (const nb::object& variable : py::elements(variables)) {
      const nb::object& value = values.at(next++);
      values_[variable.ptr()] = {value, count_in(value)};
    }
  }

  static std::optional<std::uint32_t> count_in(nb::handle value) {
    if (!value.type().is(facade().numpy_uint32)) return std::nullopt;
    return nb::cast<std::uint32_t>(nb::int_(nb::borrow(value)));
  }

  Value read(nb::handle atom) const {
    const PrivateNames& n = private_names();
    if (!is_literal(atom)) return values_.at(atom.ptr());
    const nb::object value = py::get(atom, n.val);
    if (!is_count(py::get(atom, n.aval))) return {value, std::nullopt};
    return {value, nb::cast<std::uint32_t>(nb::int_(value))};
  }

  // A sum wraps around as JAX's does.
  bool add_counts(nb::handle equation) {
    const PrivateNames& n = private_names();
    if (!py::get(equation, n.primitive).is(facade().add_primitive)) return false;
    const nb::object terms = py::get(equation, n.invars);
    const std::optional<std::uint32_t> left = read(terms[0]).count;
    const std::optional<std::uint32_t> right = read(terms[1]).count;
    if (!left || !right) return false;
    const nb::object sum = py::get(equation, n.outvars)[0];
    values_[sum.ptr()] = {{}, *left + *right};
    return true;
  }

  void run_equation(nb::handle equation) {
    const PrivateNames& n = private_names();
    nb::list inputs;
    for (const nb::object& atom : py::elements(py::get(equation, n.invars)))
      inputs.append(array_of(atom));
    const std::vector<nb::object> outputs = Operation(equation).run(inputs);
    size_t next = 0;
    for (const nb::object& variable : py::elements(py::get(equation, n.outvars)))
      values_[variable.ptr()] = {outputs.at(next++), std::nullopt};
  }

  nb::object array_of(nb::handle atom) const {
    const Facade& f = facade();
    const Value value = read(atom);
    const nb::object object = value.object.is_valid()
                                  ? value.object
                                  : nb::object(f.numpy_uint32(value.count.value_or(0)));
    return is_jax_array(object) ? object : nb::object(f.asarray(object));
  }

  std::unordered_map<PyObject*, Value> values_;  // by variables, which the jaxpr owns
};

}  // namespace

std::vector<nb::object> evaluate_concretely(nb::handle program, const nb::tuple& inputs) {
  const nb::object context = facade().compile_time_eval();
  context.attr("__enter__")();
  std::vector<nb::object> outputs;
  try {
    outputs = ConcreteEvaluation().run(program, inputs);
  } catch (nb::python_error& error) {
    context.attr("__exit__")(error.type(), error.value(), error.traceback());
    throw;
  }
  context.attr("__exit__")(nb::none(), nb::none(), nb::none());
  return outputs;
}

}  // namespace nnx_wrappers::upstream
