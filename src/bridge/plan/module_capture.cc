#include "bridge/plan/module_capture.h"

#include <algorithm>
#include <utility>

#include "bridge/to_nnx/attributes.h"
#include "graph/static_value.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/identity_set.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/program.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The objects that the caller gave. Of containers and closures, which are keyed by their parts, the
// parts are given; of partials these as well.
class GivenObjects {
 public:
  explicit GivenObjects(const std::vector<nb::object>& arguments) {
    for (const nb::object& argument : arguments) add(argument);
  }

  const py::IdentitySet& objects() const { return objects_; }

 private:
  void add(nb::handle object) {
    const py::RecursionGuard guard(" while reading the arguments of an NNX class");
    if (!seen_.insert(object)) return;  // a mapping may hold itself
    if (PyTuple_Check(object.ptr()) || PyList_Check(object.ptr())) {
      for (const nb::object& element : py::elements(object)) add(element);
    } else if (py::is_mapping(object)) {
      for (const auto& item : py::mapping_items(object)) add(item.second);
    } else if (object.type().is(upstream::facade().partial)) {
      objects_.insert(object);
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
      objects_.insert(object);
      const nb::object attributes = py::get_optional(object, nb::str("__dict__"));
      if (!py::is_class(object) && attributes.is_valid() && PyDict_CheckExact(attributes.ptr())) {
        for (const auto& item : py::dict_items(attributes)) objects_.insert(item.second);
      }
    }
  }

  py::IdentitySet objects_;
  py::IdentitySet seen_;
};

// How a template keeps what no type tells to be immutable.
class Keeping {
 public:
  Keeping(const graph::GuardRecorder& recorder, const graph::Shared& given)
      : recorder_(recorder), given_(given) {}

  graph::Kept operator()(nb::handle owner, nb::handle name, nb::handle value) const {
    if (recorder_.is_guarded(value)) return graph::Kept::kItself;
    const bool is_inner = owner.is_valid() && name.equal(upstream::names().to_nnx_module) &&
                          is_to_nnx(owner) && upstream::is_linen_module(value) &&
                          is_outermost(value) && may_be_copied(value);
    return is_inner ? graph::Kept::kMoved : graph::Kept::kNot;
  }

 private:
  // True for a Linen module that the constructor made outside of every other.
  static bool is_outermost(nb::handle module) {
    const nb::object parent = py::get(module, upstream::names().parent);
    return parent.is_none() || parent.is(upstream::innermost_linen_module());
  }

  // Copies of a Linen module share what its fields hold, but for other Linen modules.
  bool may_be_copied(nb::handle module) const {
    return upstream::is_told_by_its_fields(module) &&
           std::ranges::all_of(upstream::fields_of(module), [this](const py::Item& field) {
             return may_be_shared(field.second);
           });
  }

  bool may_be_shared(nb::handle value) const {
    const py::RecursionGuard guard(" while reading the fields of a Linen module");
    if (recorder_.is_guarded(value)) return true;
    if (upstream::is_linen_module(value)) return may_be_copied(value);
    if (upstream::is_jax_array(value)) return !upstream::is_tracer(value);
    const auto may_all_be = [this](const std::vector<nb::object>& values) {
      return std::ranges::all_of(values, [this](nb::handle one) { return may_be_shared(one); });
    };
    if (py::is_list_or_tuple(value)) return may_all_be(py::elements(value));
    const nb::object dict = upstream::level_dict(value);
    if (dict.is_valid()) return may_all_be(py::elements(dict.attr("values")()));
    return graph::policy_of(value, given_) == graph::StaticPolicy::kShare;
  }

  const graph::GuardRecorder& recorder_;
  const graph::Shared& given_;
};

// A Captured whose destructor empties the captured modules: they are in reference cycles, which
// would keep the tracers of the trace alive.
struct DissolvedCapture : graph::Captured {
  DissolvedCapture() = default;
  ~DissolvedCapture() {
    values.clear();
    nodes.clear();
    for (const nb::object& pytree : pytrees) PyDict_Clear(py::instance_dict(pytree).ptr());
  }
  DissolvedCapture(const DissolvedCapture&) = delete;
  DissolvedCapture& operator=(const DissolvedCapture&) = delete;
};

using Objects = std::vector<nb::object>;

graph::Template captured_template(nb::handle module, const GivenObjects& given,
                                  const graph::GuardRecorder& recorder, graph::Captured& captured,
                                  const Objects& given_nodes = {}) {
  const graph::Shared shared(given.objects(),
                             [&](nb::handle object) { return recorder.may_have_made(object); });
  try {
    return graph::Template::capture(module, shared, Keeping(recorder, shared), captured,
                                    given_nodes);
  } catch (nb::python_error& error) {  // of an object of the user that was only looked at
    if (!error.matches(PyExc_Exception)) throw;
    throw graph::Refusal("an object that raises " + py::type_name(error.type()));
  }
}

}  // namespace

nb::tuple ModuleCapture::copy(nb::handle module, const Objects& arguments,
                              const graph::GuardRecorder& recorder, const Objects& given) {
  graph::Captured captured;
  template_ = captured_template(module, GivenObjects(arguments), recorder, captured, given);
  if (std::ranges::any_of(captured.nodes, py::is_observed))
    throw graph::Refusal("a node with a weak reference or a finalizer");
  template_.detach();
  return outputs_of(captured.values);
}

nb::tuple ModuleCapture::take_apart(nb::handle module, const Objects& arguments,
                                    const graph::GuardRecorder& recorder) {
  DissolvedCapture captured;
  template_ = captured_template(module, GivenObjects(arguments), recorder, captured);
  return outputs_of(captured.values);
}

ModuleState::ModuleState(nb::object module, Objects arguments, const graph::GuardRecorder& recorder)
    : module_(std::move(module)),
      arguments_(std::move(arguments)),
      recorder_(recorder),
      template_(captured_template(module_, GivenObjects(arguments_), recorder_, captured_)),
      contents_(template_, captured_) {}

bool ModuleState::is_unchanged() const {
  graph::Captured captured;
  try {
    const graph::Template now =
        captured_template(module_, GivenObjects(arguments_), recorder_, captured);
    return graph::are_same(template_, captured_, now, captured) && contents_.are_unchanged();
  } catch (const graph::Refusal&) {
    return false;
  }
}

nb::tuple ModuleCapture::outputs_of(const Objects& values) {
  nb::list outputs;
  for (size_t i = 0; i < values.size(); ++i) {
    first_output_.push_back(nb::len(outputs));
    trees_.emplace_back();
    if (!is_computed(i)) continue;
    if (upstream::is_jax_array(values[i])) {
      outputs.append(values[i]);
      continue;
    }
    const nb::object flat = upstream::facade().tree_flatten(values[i]);
    for (const nb::object& leaf : py::elements(flat[0])) {
      const bool is_computed_leaf = upstream::is_tracer(leaf);
      trees_.back().leaves.push_back(is_computed_leaf ? nb::object()
                                                      : upstream::copied_value(leaf));
      if (is_computed_leaf) outputs.append(leaf);
    }
    trees_.back().structure = flat[1];
  }
  first_output_.push_back(nb::len(outputs));
  return nb::tuple(outputs);
}

std::vector<nb::object> ModuleCapture::arrays() const {
  Objects found;
  const auto add = [&](const nb::object& value) {
    if (value.is_valid() && upstream::is_jax_array(value)) found.push_back(value);
  };
  for (size_t i = 0; i < slots().size(); ++i) {
    for (const nb::object& leaf : trees_[i].leaves) add(leaf);
    if (is_computed(i)) continue;
    for (const nb::object& leaf :
         py::elements(upstream::facade().tree_flatten(slots()[i].constant)[0]))
      add(leaf);
  }
  return found;
}

nb::object ModuleCapture::constant(size_t slot) const {
  const graph::Slot& of = slots()[slot];
  return of.is_shared ? of.constant : upstream::copied_value(of.constant);
}

nb::object ModuleCapture::instantiate_from(const Objects& outputs, size_t& next,
                                           const Objects& given) const {
  Objects values;
  values.reserve(slots().size());
  for (size_t i = 0; i < slots().size(); ++i)
    values.push_back(is_computed(i) ? value_from(outputs, next, i) : constant(i));
  return template_.instantiate(values, given);
}

nb::object ModuleCapture::structure(size_t slot) const {
  const bool is_tree = is_computed(slot) && trees_[slot].structure.is_valid();
  if (is_tree) return trees_[slot].structure;
  const nb::object leaf_or_tree = is_computed(slot) ? nb::bool_(true) : slots()[slot].constant;
  return nb::object(upstream::facade().tree_flatten(leaf_or_tree)[1]);
}

nb::object ModuleCapture::value_from(const std::vector<nb::object>& outputs, size_t& next,
                                     size_t slot) const {
  if (!trees_[slot].structure.is_valid()) return outputs.at(next++);
  nb::list leaves;
  for (const nb::object& constant : trees_[slot].leaves)
    leaves.append(constant.is_valid() ? upstream::copied_value(constant) : outputs.at(next++));
  return trees_[slot].structure.attr("unflatten")(leaves);
}

}  // namespace nnx_wrappers::bridge
