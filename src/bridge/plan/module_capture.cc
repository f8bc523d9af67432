#include "bridge/plan/module_capture.h"

#include <algorithm>

#include "bridge/to_nnx/attributes.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/identity_set.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/program.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The objects that the caller gave. Of containers, closures and partials, which are keyed by their
// parts, the parts are given.
class GivenObjects {
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

// True for an unbound Linen module inside a ToNNX. It runs in scopes that the ToNNX makes, so all
// modules of the plan may share it.
bool is_inner_linen_module(nb::handle owner, nb::handle name, nb::handle value) {
  return name.equal(upstream::names().to_nnx_module) && is_to_nnx(owner) &&
         upstream::is_linen_module(value) && py::get(value, upstream::names().scope).is_none();
}

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

}  // namespace

namespace {

using Objects = std::vector<nb::object>;

graph::Template captured_template(nb::handle module, const Objects& arguments,
                                  const graph::GuardRecorder& recorder, const Objects& foreign,
                                  graph::Captured& captured) {
  GivenObjects given;
  for (const nb::object& argument : arguments) given.add(argument);
  const auto may_share = [&](nb::handle owner, nb::handle name, nb::handle value) {
    return recorder.is_guarded(value) ||
           (owner.is_valid() && is_inner_linen_module(owner, name, value));
  };
  graph::Template made = graph::Template::capture(module, given.objects(), may_share, captured);
  for (const nb::object& node : captured.nodes) {
    const bool is_foreign =
        std::ranges::any_of(foreign, [&](const nb::object& object) { return object.is(node); });
    if (is_foreign) throw graph::Refusal("a module that keeps a node of its arguments");
  }
  return made;
}

}  // namespace

bool ModuleCapture::can_take_apart(nb::handle module, const Objects& arguments,
                                   const graph::GuardRecorder& recorder, const Objects& foreign) {
  graph::Captured captured;
  try {
    captured_template(module, arguments, recorder, foreign, captured);
  } catch (const graph::Refusal&) {
    return false;
  }
  return std::ranges::none_of(captured.nodes, py::is_observed);
}

nb::tuple ModuleCapture::take_apart(nb::handle module, const Objects& arguments,
                                    const graph::GuardRecorder& recorder, const Objects& foreign) {
  DissolvedCapture captured;
  template_ = captured_template(module, arguments, recorder, foreign, captured);
  nb::list outputs;
  for (size_t i = 0; i < captured.values.size(); ++i) {
    first_output_.push_back(nb::len(outputs));
    trees_.emplace_back();
    if (!is_computed(i)) continue;
    const nb::object flat = upstream::facade().tree_flatten(captured.values[i]);
    for (const nb::object& leaf : py::elements(flat[0])) outputs.append(leaf);
    trees_.back() = flat[1];
  }
  first_output_.push_back(nb::len(outputs));
  return nb::tuple(outputs);
}

nb::object ModuleCapture::constant(size_t slot) const {
  const graph::Slot& of = slots()[slot];
  return of.is_shared ? of.constant : upstream::copied_value(of.constant);
}

nb::object ModuleCapture::structure(size_t slot) const {
  if (is_computed(slot)) return trees_[slot];
  return nb::object(upstream::facade().tree_flatten(slots()[slot].constant)[1]);
}

nb::object ModuleCapture::value_from(const std::vector<nb::object>& outputs, size_t& next,
                                     size_t slot) const {
  nb::list leaves;
  for (size_t output = first_output_[slot]; output < first_output_[slot + 1]; ++output)
    leaves.append(outputs.at(next++));
  return trees_[slot].attr("unflatten")(leaves);
}

}  // namespace nnx_wrappers::bridge
