#include "upstream/trace_slice.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/equations.h"
#include "upstream/facade.h"
#include "upstream/leaked.h"
#include "upstream/private_names.h"
#include "upstream/program.h"

namespace nnx_wrappers::upstream {

// The equations that some outputs depend on.
class TraceSlice::Function {
 public:
  Function(const TraceSlice& slice, const nb::tuple& inputs)
      : slice_(slice), list_(avals_of(slice, inputs), slice.frame_) {
    size_t number = 0;
    for (const nb::object& input : py::elements(inputs)) {
      const bool is_constant = slice.constant_in_trace(input).is_valid();
      if (!is_constant) note(slice.variable_of(input), number);
      ++number;
    }
  }

  // False if it cannot be a function.
  bool add(const std::vector<nb::object>& outputs) {
    const PrivateNames& n = private_names();
    const std::vector<nb::object> equations = slice_.equations();
    for (const nb::object& output : outputs) {
      const nb::object variable = slice_.variable_of(output);
      const bool is_outer = !variable.is_valid() && is_tracer(output);
      if (is_outer && !slice_.constant_in_trace(output).is_valid()) return false;
      need(variable);
    }
    std::vector<bool> is_needed(equations.size());
    for (size_t i = equations.size(); i-- > 0;) {
      if (nb::len(py::get(equations[i], n.effects)) != 0) return false;
      for (const nb::object& variable : py::elements(py::get(equations[i], n.outvars)))
        is_needed[i] = is_needed[i] || needed_.contains(variable.ptr());
      if (!is_needed[i]) continue;
      for (const nb::object& input : py::elements(py::get(equations[i], n.in_tracers)))
        need(slice_.variable_of(input));
    }
    for (size_t i = 0; i < equations.size(); ++i) {
      if (is_needed[i] && !add_equation(equations[i])) return false;
    }
    return std::ranges::all_of(outputs, [this](const nb::object& output) {
      const std::optional<EquationList::Operand> made = operand(output);
      if (made) list_.add_output(*made);
      return made.has_value();
    });
  }

  Repeatable finish() && {
    return {std::make_shared<const EquationList>(std::move(list_)),
            search_.may_have_entered_mesh()};
  }

 private:
  // Those of constants do not matter: each is a constant of the list.
  static std::vector<nb::object> avals_of(const TraceSlice& slice, const nb::tuple& inputs) {
    std::vector<nb::object> avals;
    for (const nb::object& input : py::elements(inputs)) {
      const bool is_constant = slice.constant_in_trace(input).is_valid();
      avals.push_back(is_constant ? nb::object() : py::get(input, private_names().aval));
    }
    return avals;
  }

  void note(const nb::object& variable, size_t number) {
    numbers_.emplace(variable.ptr(), number);
    kept_.push_back(variable);
  }

  void need(const nb::object& variable) {
    if (variable.is_valid() && needed_.insert(variable.ptr()).second) kept_.push_back(variable);
  }

  // Nothing for a value of another trace, or one that was computed before the slice.
  std::optional<EquationList::Operand> operand(const nb::object& value) const {
    if (!is_tracer(value)) return EquationList::Operand{value, 0};
    const nb::object variable = slice_.variable_of(value);
    const auto known = variable.is_valid() ? numbers_.find(variable.ptr()) : numbers_.end();
    if (known != numbers_.end()) return EquationList::Operand{{}, known->second};
    if (!slice_.constant_in_trace(value).is_valid()) return std::nullopt;
    // A literal is of no trace.
    const nb::object held = py::get(value, private_names().val);
    return EquationList::Operand{is_literal(held) ? held : slice_.constant_in_trace(value), 0};
  }

  bool add_equation(const nb::object& equation) {
    const PrivateNames& n = private_names();
    search_.add(equation);
    if (search_.calls_back()) return false;
    std::vector<EquationList::Operand> inputs;
    for (const nb::object& input : py::elements(py::get(equation, n.in_tracers))) {
      std::optional<EquationList::Operand> known = operand(input);
      if (!known) return false;
      inputs.push_back(*std::move(known));
    }
    size_t number = list_.values();
    list_.add(equation, std::move(inputs));
    for (const nb::object& output : py::elements(py::get(equation, n.outvars)))
      note(output, number++);
    return true;
  }

  const TraceSlice& slice_;
  std::unordered_map<PyObject*, size_t> numbers_;
  std::unordered_set<PyObject*> needed_;
  std::vector<nb::object> kept_;  // owns the keys of both
  EquationSearch search_;
  EquationList list_;
};

TraceSlice::TraceSlice() {
  nb::object trace = staging_trace();
  if (!trace.is_valid()) return;
  const PrivateNames& n = private_names();
  nb::object frame = py::get_optional(trace, n.frame);
  if (!frame.is_valid()) return;
  const nb::object equations = py::get_optional(frame, n.tracing_eqns);
  if (!equations.is_valid() || PyList_CheckExact(equations.ptr()) == 0) return;
  first_ = nb::len(equations);
  trace_ = std::move(trace);
  frame_ = std::move(frame);
}

nb::object TraceSlice::variable_of(nb::handle value) const {
  const PrivateNames& n = private_names();
  if (!is_tracer(value) || !py::get(value, n.trace).is(trace_)) return {};
  nb::object held = py::get(value, n.val);
  return is_literal(held) ? nb::object() : held;
}

std::vector<nb::object> TraceSlice::equations() const {
  const nb::object all = py::get(frame_, private_names().tracing_eqns);
  std::vector<nb::object> found;
  for (size_t i = first_; i < std::min(end_, nb::len(all)); ++i) {
    nb::object equation = all[i];
    // JAX holds those weakly that it may leave out once no value depends on them.
    if (PyWeakref_Check(equation.ptr()) != 0) equation = equation();
    if (!equation.is_none()) found.push_back(std::move(equation));
  }
  return found;
}

void TraceSlice::end() { end_ = nb::len(py::get(frame_, private_names().tracing_eqns)); }

bool TraceSlice::is_of(nb::handle trace) const { return trace_.is(trace); }

bool TraceSlice::accepts(const nb::tuple& inputs) const {
  if (!frame_.is_valid()) return false;
  std::unordered_set<PyObject*> seen;
  for (const nb::object& input : py::elements(inputs)) {
    if (constant_in_trace(input).is_valid()) continue;
    const nb::object variable = variable_of(input);
    if (!variable.is_valid() || constants().contains(variable)) return false;
    if (!seen.insert(variable.ptr()).second) return false;
  }
  return true;
}

nb::dict TraceSlice::constants() const {
  return nb::cast<nb::dict>(nb::object(py::get(frame_, private_names().constvar_to_val)));
}

// A literal, or the value of a constant variable, which is no value of an outer trace.
nb::object TraceSlice::constant_in_trace(nb::handle value) const {
  const PrivateNames& n = private_names();
  if (!is_tracer(value) || !py::get(value, n.trace).is(trace_)) return {};
  const nb::object held = py::get(value, n.val);
  if (is_literal(held)) return py::get(held, n.val);
  nb::object constant = py::dict_get(constants(), held);
  return constant.is_valid() && !is_tracer(constant) ? constant : nb::object();
}

nb::object TraceSlice::constant_of(nb::handle tracer) {
  const TraceSlice here;
  return here.frame_.is_valid() ? here.constant_in_trace(tracer) : nb::object();
}

TraceSlice::Repeatable TraceSlice::repeatable(const nb::tuple& inputs,
                                              const std::vector<nb::object>& outputs) const {
  Function function(*this, inputs);
  return function.add(outputs) ? std::move(function).finish() : Repeatable();
}

std::string_view TraceSlice::reason_not_supported() {
  if (!facade().literal.is_valid()) return "JAX does not show the literals of a jaxpr";
  bool is_seen = false;
  const auto traced = [&](const nb::object& input) {
    TraceSlice slice;
    nb::object output = facade().lax_add(input, input);
    slice.end();
    const nb::tuple inputs = nb::make_tuple(input);
    is_seen = slice.accepts(inputs) && slice.equations().size() == 1;
    const Repeatable repeatable = slice.repeatable(inputs, {output});
    if (is_seen && repeatable.equations != nullptr) repeatable.equations->run({input});
    slice.end();
    is_seen = is_seen && repeatable.equations != nullptr && slice.equations().size() == 2;
    return output;
  };
  const nb::object abstract = facade().shape_dtype_struct(nb::tuple(), facade().count_dtype);
  trace_program(nb::cpp_function(traced), nb::make_tuple(abstract));
  return is_seen ? "" : "JAX keeps the equations of a trace in another way";
}

}  // namespace nnx_wrappers::upstream
