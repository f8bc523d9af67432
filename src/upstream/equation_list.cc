#include "upstream/equation_list.h"

#include <optional>
#include <unordered_map>

#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/leaked.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

// Adds equations to the current trace, as JAX does when it inlines a jaxpr.
class EquationList::Copier {
 public:
  // Nothing if the current trace does not stage, or adds equations in another way.
  static std::optional<Copier> of_current_trace() {
    const Facade& f = facade();
    nb::object trace = staging_trace();
    if (!trace.is_valid() || !f.source_info.is_valid() || !f.jaxpr_tracer.is_valid())
      return std::nullopt;
    nb::object emit = py::get_optional(trace, private_names().emit_eqn);
    nb::object lift = py::get_optional(trace, private_names().to_jaxpr_tracer);
    if (!emit.is_valid() || !lift.is_valid()) return std::nullopt;
    return Copier(std::move(trace), std::move(emit), std::move(lift));
  }

  std::vector<nb::object> copy(const Operation& operation, const nb::list& inputs) const {
    nb::list tracers;
    for (const nb::object& input : py::elements(inputs)) tracers.append(tracer_of(input));
    return operation.copy(emit_, tracers, source_);
  }

 private:
  Copier(nb::object trace, nb::object emit, nb::object lift)
      : trace_(std::move(trace)),
        emit_(std::move(emit)),
        lift_(std::move(lift)),
        source_(facade().source_info()) {}

  nb::object tracer_of(const nb::object& value) const {
    const PrivateNames& n = private_names();
    if (is_literal(value))
      return facade().jaxpr_tracer(trace_, py::get(value, n.aval), value, source_);
    const bool is_of_trace = is_tracer(value) && py::get(value, n.trace).is(trace_);
    return is_of_trace ? value : nb::object(lift_(value, source_));
  }

  nb::object trace_;
  nb::object emit_;
  nb::object lift_;
  nb::object source_;
};

namespace {

nb::object value_of(const nb::object& constant) {
  return is_literal(constant) ? nb::object(py::get(constant, private_names().val)) : constant;
}

}  // namespace

EquationList::EquationList(std::vector<nb::object> avals, nb::handle source)
    : avals_(std::move(avals)), values_(avals_.size()) {
  const nb::object is_high = py::get_optional(source, private_names().is_high);
  may_be_copied_ = !is_high.is_valid() || !py::truthy(is_high);
}

void EquationList::add(nb::handle equation, std::vector<Operand> inputs) {
  steps_.push_back({Operation(equation), std::move(inputs)});
  values_ += steps_.back().operation.outputs();
}

EquationList EquationList::of_program(nb::handle program, size_t bound) {
  const PrivateNames& n = private_names();
  const nb::object jaxpr = py::get(program, n.jaxpr);
  std::unordered_map<PyObject*, Operand> known;  // by variables, which the jaxpr owns
  std::vector<nb::object> avals;
  for (const nb::object& input : py::elements(py::get(jaxpr, n.invars))) {
    nb::object aval = py::get(input, n.aval);
    if (avals.size() == bound) {
      known[input.ptr()] = {facade().literal(zero_count(), aval), 0};
      continue;
    }
    known[input.ptr()] = {{}, avals.size()};
    avals.push_back(std::move(aval));
  }
  const std::vector<nb::object> constants = py::elements(py::get(program, n.consts));
  size_t next = 0;
  for (const nb::object& variable : py::elements(py::get(jaxpr, n.constvars)))
    known[variable.ptr()] = {constants.at(next++), 0};
  const auto operand = [&](const nb::object& atom) {
    return is_literal(atom) ? Operand{atom, 0} : known.at(atom.ptr());
  };
  EquationList list(std::move(avals), jaxpr);
  for (const nb::object& equation : py::elements(py::get(jaxpr, n.eqns))) {
    std::vector<Operand> inputs;
    for (const nb::object& atom : py::elements(py::get(equation, n.invars)))
      inputs.push_back(operand(atom));
    size_t number = list.values();
    list.add(equation, std::move(inputs));
    for (const nb::object& output : py::elements(py::get(equation, n.outvars)))
      known[output.ptr()] = {{}, number++};
  }
  for (const nb::object& atom : py::elements(py::get(jaxpr, n.outvars)))
    list.add_output(operand(atom));
  return list;
}

// True if the equations may be copied for these inputs: they have the abstract values of those that
// the equations were traced with.
bool EquationList::fits(const std::vector<nb::object>& inputs) const {
  if (!may_be_copied_) return false;
  for (size_t i = 0; i < avals_.size(); ++i) {
    if (!avals_[i].is_valid()) continue;
    if (!is_tracer(inputs.at(i))) return false;
    if (!py::equal(py::get(inputs[i], private_names().aval), avals_[i])) return false;
  }
  return true;
}

std::vector<nb::object> EquationList::run(const std::vector<nb::object>& inputs) const {
  std::optional<Copier> copier = Copier::of_current_trace();
  if (copier && !fits(inputs)) copier.reset();
  std::vector<nb::object> values = inputs;
  values.reserve(values_);
  for (const Step& step : steps_) {
    nb::list given;
    for (const Operand& input : step.inputs) {
      const bool has_number = !input.constant.is_valid();
      given.append(has_number ? values.at(input.number)
                   : copier   ? input.constant
                              : value_of(input.constant));
    }
    for (nb::object& made :
         copier ? copier->copy(step.operation, given) : step.operation.run(given))
      values.push_back(std::move(made));
  }
  std::vector<nb::object> results;
  for (const Operand& output : outputs_) {
    nb::object result =
        output.constant.is_valid() ? value_of(output.constant) : values.at(output.number);
    results.push_back(is_jax_array(result) ? std::move(result)
                                           : nb::object(facade().asarray(result)));
  }
  return results;
}

}  // namespace nnx_wrappers::upstream
