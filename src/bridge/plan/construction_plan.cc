#include "bridge/plan/construction_plan.h"

#include <memory>
#include <utility>

#include "bridge/convert/given_variables.h"
#include "bridge/plan/context_queries.h"
#include "bridge/to_nnx/attributes.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/identity_set.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/program.h"
#include "upstream/scope.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// Objects that the caller gave: what the constructor keeps of them, the module of a plan keeps too.
// One level of attributes counts as given, as in `self.mesh = config.mesh`. Closures and partials
// are keyed by their parts, so it is their parts that are given.
class Given {
 public:
  void add(nb::handle object) {
    const py::RecursionGuard guard(" while reading the arguments of an NNX class");
    if (!seen_.insert(object)) return;  // a mapping may hold itself
    if (PyTuple_Check(object.ptr()) || PyList_Check(object.ptr())) {
      for (const nb::object& element : py::elements(object)) add(element);
    } else if (py::is_mapping(object)) {
      for (const auto& item : py::mapping_items(object)) add(item.second);
    } else if (object.type().is(upstream::facade().partial)) {
      for (const char* part : {"func", "args", "keywords"}) add(py::get(object, nb::str(part)));
    } else if (PyMethod_Check(object.ptr())) {
      for (const char* part : {"__func__", "__self__"}) add(py::get(object, nb::str(part)));
    } else if (PyFunction_Check(object.ptr()) && !py::cells_of(object).empty()) {
      for (const char* part : {"__defaults__", "__kwdefaults__", "__dict__"})
        add(py::get(object, nb::str(part)));
      for (const nb::object& cell : py::cells_of(object)) {
        const nb::object contents = py::cell_contents(cell);
        if (contents.is_valid()) add(contents);
      }
    } else {
      objects_.push_back(nb::borrow(object));
      const nb::object attributes = py::get_optional(object, nb::str("__dict__"));
      if (!py::is_class(object) && attributes.is_valid() && PyDict_CheckExact(attributes.ptr())) {
        for (auto& item : py::dict_items(attributes)) objects_.push_back(item.second);
      }
    }
  }

  const std::vector<nb::object>& objects() const { return objects_; }

 private:
  std::vector<nb::object> objects_;
  py::IdentitySet seen_;
};

// JAX may keep a function that it traces. This one is for one call, and for as long as the
// variables that it refers to.
struct OneRun {
  std::shared_ptr<bool> awaited = std::make_shared<bool>(true);
  OneRun() = default;
  ~OneRun() { *awaited = false; }
  OneRun(const OneRun&) = delete;
  OneRun& operator=(const OneRun&) = delete;
};

// The Linen module inside a ToNNX runs in scopes of its own, so an unbound one may
// be shared; others would have been adopted by the ToLinen.
bool is_inner_linen_module(nb::handle owner, nb::handle name, nb::handle value) {
  return name.equal(upstream::names().to_nnx_module) && is_to_nnx(owner) &&
         upstream::is_linen_module(value) && py::get(value, upstream::names().scope).is_none();
}

// What a capture took out of a graph. Takes that apart in the end, whatever comes of it: the trace
// must not leave it behind, for cycles would keep its tracers.
struct Dissolved : graph::Captured {
  Dissolved() = default;
  ~Dissolved() {
    values.clear();
    for (const nb::object& pytree : pytrees) PyDict_Clear(py::instance_dict(pytree).ptr());
  }
  Dissolved(const Dissolved&) = delete;
  Dissolved& operator=(const Dissolved&) = delete;
};

nb::tuple select(const std::vector<nb::object>& keys, const std::vector<bool>& used) {
  nb::list chosen;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (used[i]) chosen.append(keys[i]);
  }
  return nb::tuple(chosen);
}

bool is_integer_or_key(nb::handle aval) {
  return !nb::cast<bool>(
      upstream::facade().issubdtype(py::get(aval, nb::str("dtype")), upstream::facade().inexact));
}

// The abstract keys that the traced constructor is given, one for each stream that has keys.
nb::tuple abstract_keys(const ConstructorCall& call) {
  nb::list keys;
  for (const Stream& stream : call.streams) {
    if (!stream.key_type.is_valid()) continue;
    keys.append(upstream::facade().shape_dtype_struct(stream.key_type[0], stream.key_type[1]));
  }
  return nb::tuple(keys);
}

// The nnx.Rngs of a constructor from the keys of its streams, or invalid if it takes none.
nb::object rngs_from(const ConstructorCall& call, const nb::args& keys) {
  if (!call.takes_rngs) return {};
  nb::dict streams;
  size_t next = 0;
  for (const Stream& stream : call.streams) {
    streams[stream.name] = stream.key_type.is_valid() ? nb::object(keys[next++]) : stream.seed;
  }
  return py::call(upstream::facade().rngs, nb::tuple(), streams);
}

}  // namespace

// Takes the module apart: the template stays, the values of its traced leaves are returned.
nb::tuple ConstructionPlan::capture(nb::handle module, const ConstructorCall& call,
                                    const graph::GuardRecorder& recorder) {
  Given given;
  given.add(call.args);
  given.add(call.kwargs);
  // What was there before the constructor ran is not its own, and is compared.
  const auto may_share = [&](nb::handle owner, nb::handle name, nb::handle value) {
    return recorder.has_seen(value) ||
           (owner.is_valid() && is_inner_linen_module(owner, name, value));
  };
  Dissolved captured;
  template_ = graph::Template::capture(module, given.objects(), may_share, captured);
  nb::list outputs;
  for (size_t i = 0; i < captured.values.size(); ++i) {
    first_output_.push_back(nb::len(outputs));
    trees_.emplace_back();
    if (template_.slots()[i].constant.is_valid()) continue;
    const nb::object flat = upstream::facade().tree_flatten(captured.values[i]);
    for (const nb::object& leaf : py::elements(flat[0])) outputs.append(leaf);
    trees_.back() = flat[1];
  }
  first_output_.push_back(nb::len(outputs));
  return nb::tuple(outputs);
}

// What can be told of the slots once the program is known.
void ConstructionPlan::complete() {
  prepare_hidden_values();
  for (const graph::Slot& slot : template_.slots()) {
    const bool is_state = slot.type.is_valid() && !slot.is_hidden;
    collections_.push_back(is_state ? upstream::collection_of(slot.type) : nb::object());
  }
  layout_ = std::make_unique<const VariableLayout>(template_.slots(), collections_);
  for (const nb::object& aval : upstream::output_avals(program_)) {
    is_exact_.push_back(is_integer_or_key(aval));
  }
}

ConstructionPlan::Built ConstructionPlan::build(const ConstructorCall& call) {
  std::unique_ptr<ConstructionPlan> plan(new ConstructionPlan());
  std::string reason;
  graph::Dependences dependences;
  graph::GuardRecorder recorder;
  add_roots(call, recorder);
  const OneRun one_run;
  const auto trace = [&, awaited = one_run.awaited](const nb::args& keys) -> nb::object {
    if (!std::exchange(*awaited, false)) {
      throw InternalError("a trace of a constructor that was run before, or is over");
    }
    const nb::object rngs = rngs_from(call, keys);
    recorder.start();
    const nb::object module = construct(call, rngs);
    dependences = recorder.finish();
    try {
      return plan->capture(module, call, recorder);
    } catch (const graph::Refusal& refusal) {
      reason = refusal.what();
      return nb::tuple();
    }
  };
  const ContextQueries queries;
  try {
    // What Qwix does to an operation of the constructor depends on where that stands: it asks
    // for the current module, and must not find one further out instead.
    const upstream::NoLinenModule outside(call.interceptors.is_valid() ? nb::object(nb::bool_(true))
                                                                       : nb::none());
    plan->program_ = upstream::trace_program(nb::cpp_function(trace), abstract_keys(call));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    reason = "a constructor that cannot be traced (" + py::type_name(error.type()) + ")";
  }
  if (reason.empty()) reason = upstream::reason_not_reusable(plan->program_);
  if (reason.empty() && queries.asked()) reason = "a constructor that asks about Linen's context";
  if (!reason.empty()) return {nullptr, {nullptr, reason, false}};
  plan->complete();
  return {std::move(plan), std::move(dependences)};
}

void ConstructionPlan::prepare_hidden_values() {
  const auto& slots = template_.slots();
  std::vector<bool> needed(first_output_.back(), false);
  bool any = false;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!slots[i].is_hidden || slots[i].constant.is_valid()) continue;
    for (size_t output = first_output_[i]; output < first_output_[i + 1]; ++output)
      needed[output] = any = true;
  }
  if (!any) return;
  hidden_ = part_in_steps(needed);
}

// Operation by operation in the present trace, as the constructor would do it: whoever
// calls the closure gets the same bits.
void ConstructionPlan::add_hidden_values(const std::vector<nb::object>& keys,
                                         std::vector<nb::object>& values) const {
  if (!hidden_) return;
  const auto& slots = template_.slots();
  const std::vector<nb::object> outputs =
      upstream::evaluate(hidden_->function, select(keys, hidden_->used_keys));
  size_t next = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (slots[i].is_hidden && !slots[i].constant.is_valid())
      values[i] = value_from(outputs, next, i);
  }
}

nb::object ConstructionPlan::value_from(const std::vector<nb::object>& outputs, size_t& next,
                                        size_t slot) const {
  nb::list leaves;
  for (size_t output = first_output_[slot]; output < first_output_[slot + 1]; ++output)
    leaves.append(outputs.at(next++));
  return trees_[slot].attr("unflatten")(leaves);
}

ConstructionPlan::Part ConstructionPlan::part_in_steps(const std::vector<bool>& needed) const {
  upstream::Pruned pruned = upstream::prune(program_, needed);
  return {upstream::as_function(pruned.program), std::move(pruned.used_inputs), {}};
}

std::shared_ptr<const ConstructionPlan::Part> ConstructionPlan::part_for(
    const std::vector<bool>& needed) const {
  const auto known = parts_.find(needed);
  if (known != parts_.end()) return known->second;
  Part part;
  const upstream::Pruned pruned = upstream::prune(program_, needed);
  part.used_keys = pruned.used_inputs;
  bool uses_keys = false;
  for (const bool used : part.used_keys) uses_keys = uses_keys || used;
  const nb::object function = upstream::as_function(pruned.program);
  if (!uses_keys) {
    part.constants = upstream::evaluate_now(function);
  } else {
    part.function = upstream::compiled(function);
  }
  // What it held dies when the table is whole again: other threads may run meanwhile.
  const auto dying = parts_.size() < kMostParts ? decltype(parts_)() : std::exchange(parts_, {});
  const auto made = std::make_shared<const Part>(std::move(part));
  parts_.insert_or_assign(needed, made);
  return made;
}

std::vector<nb::object> ConstructionPlan::draw_keys(const ConstructorCall& call, nb::handle scope,
                                                    const Part& part) const {
  std::vector<nb::object> keys;
  for (const Stream& stream : call.streams) {
    if (!stream.key_type.is_valid()) continue;
    const size_t input = keys.size();
    const bool used = part.used_keys.at(input) || (hidden_ && hidden_->used_keys.at(input));
    if (!used) upstream::skip_key(scope, stream.name);
    keys.push_back(used ? upstream::draw_key(scope, stream.name) : nb::object());
  }
  return keys;
}

ConstructionPlan::Made ConstructionPlan::instantiate(const ConstructorCall& call, nb::handle scope,
                                                     nb::handle variables) const {
  std::vector<nb::object> values(template_.slots().size());
  if (!layout_->take(variables, values)) return {};
  std::vector<graph::Path> missing;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i].is_valid()) {
      if (is_parameter(i)) missing.push_back(template_.slots()[i].path);
    } else if (!has_structure_of(i, values[i])) {
      return {};
    }
  }
  return finish(call, scope, values, std::move(missing), false);
}

bool ConstructionPlan::is_parameter(size_t slot) const {
  return collections_[slot].is_valid() && collections_[slot].equal(upstream::names().params);
}

bool ConstructionPlan::has_structure_of(size_t slot, nb::handle value) const {
  if (!py::is_list_or_tuple(value)) return true;
  const upstream::Facade& f = upstream::facade();
  const nb::object& constant = template_.slots()[slot].constant;
  const nb::object expected =
      constant.is_valid() ? nb::object(f.tree_flatten(constant)[1]) : trees_[slot];
  return !expected.is_valid() || nb::object(f.tree_flatten(value)[1]).equal(expected);
}

ConstructionPlan::Made ConstructionPlan::instantiate(const ConstructorCall& call, nb::handle scope,
                                                     graph::StateTree& given, bool in_steps) const {
  const auto& slots = template_.slots();
  std::vector<nb::object> values;
  values.reserve(slots.size());
  std::vector<graph::Path> missing;
  for (size_t i = 0; i < slots.size(); ++i) {
    TakenLeaf taken;
    if (!slots[i].is_hidden) {
      taken = take_leaf(given, slots[i].path, collections_[i],
                        [&](nb::handle value) { return has_structure_of(i, value); });
    }
    if (!taken.is_given && is_parameter(i)) missing.push_back(slots[i].path);
    values.push_back(std::move(taken.value));
  }
  return finish(call, scope, values, std::move(missing), in_steps);
}

// Fills in the values that nobody gave, and makes the module.
ConstructionPlan::Made ConstructionPlan::finish(const ConstructorCall& call, nb::handle scope,
                                                std::vector<nb::object>& values,
                                                std::vector<graph::Path> missing,
                                                bool in_steps) const {
  const auto& slots = template_.slots();
  std::vector<bool> needed(is_exact_.size(), false);
  for (size_t i = 0; i < slots.size(); ++i) {
    if (values[i].is_valid()) continue;
    if (slots[i].constant.is_valid()) {
      values[i] =
          slots[i].is_shared ? slots[i].constant : upstream::copied_value(slots[i].constant);
      continue;
    }
    if (slots[i].is_hidden) continue;
    for (size_t output = first_output_[i]; output < first_output_[i + 1]; ++output) {
      if (!is_exact_[output] && !in_steps) return {};
      needed[output] = true;
    }
  }
  const std::shared_ptr<const Part> part =
      in_steps ? std::make_shared<const Part>(part_in_steps(needed)) : part_for(needed);
  const std::vector<nb::object> keys = draw_keys(call, scope, *part);
  add_hidden_values(keys, values);
  const std::vector<nb::object> outputs =
      part->constants ? *part->constants
                      : upstream::evaluate(part->function, select(keys, part->used_keys));
  size_t next = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!values[i].is_valid()) values[i] = value_from(outputs, next, i);
  }
  return {template_.instantiate(values), std::move(missing)};
}

}  // namespace nnx_wrappers::bridge
