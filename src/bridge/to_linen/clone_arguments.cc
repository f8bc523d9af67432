#include "bridge/to_linen/clone_arguments.h"

#include <unordered_map>
#include <utility>

#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/facade.h"
#include "upstream/node.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

constexpr const char* kGuard = " while reading the arguments of an NNX class";

bool is_nnx_object(nb::handle object) {
  const upstream::NodeKind kind = upstream::kind_of(object);
  return kind == upstream::NodeKind::kPytree || kind == upstream::NodeKind::kGraphNode ||
         kind == upstream::NodeKind::kVariable;
}

bool is_sequence(nb::handle object) {
  return nb::isinstance<nb::list>(object) || nb::isinstance<nb::tuple>(object);
}

bool is_dict(nb::handle object) {
  return nb::isinstance<nb::dict>(object) ||
         py::is_subtype(object.type(), upstream::facade().frozen_dict);
}

// Appends the outermost NNX objects; their clones contain clones of the others.
void find(nb::handle object, nb::list& found) {
  const py::RecursionGuard guard(kGuard);
  if (is_sequence(object)) {
    for (const nb::object& element : py::elements(object)) find(element, found);
  } else if (is_dict(object)) {
    for (const auto& item : py::mapping_items(object)) find(item.second, found);
  } else if (is_nnx_object(object)) {
    found.append(object);
  }
}

using Clones = std::unordered_map<PyObject*, nb::object>;

// The object with clones in the place of originals. Only containers that hold one are copied.
nb::object replaced(const nb::object& object, const Clones& clones) {
  const py::RecursionGuard guard(kGuard);
  const auto clone = clones.find(object.ptr());
  if (clone != clones.end()) return clone->second;
  bool changed = false;
  if (is_sequence(object)) {
    nb::list elements;
    for (const nb::object& element : py::elements(object)) {
      nb::object next = replaced(element, clones);
      changed = changed || !next.is(element);
      elements.append(next);
    }
    if (!changed) return object;
    const nb::object type = nb::borrow(object.type());
    const nb::object make = py::get_optional(type, nb::str("_make"));  // of a namedtuple
    return make.is_valid() ? make(elements) : type(elements);
  }
  if (is_dict(object)) {
    nb::dict items;
    for (const auto& [key, value] : py::mapping_items(object)) {
      nb::object next = replaced(value, clones);
      changed = changed || !next.is(value);
      items[key] = next;
    }
    if (changed) return object.type()(items);
  }
  return object;
}

}  // namespace

Arguments clone_arguments(Arguments arguments) {
  nb::list originals;
  find(arguments.args, originals);
  find(arguments.kwargs, originals);
  if (nb::len(originals) == 0) return arguments;
  const nb::object copies = upstream::facade().clone(originals);
  Clones clones;
  for (size_t i = 0; i < nb::len(originals); ++i) {
    clones.emplace(nb::object(originals[i]).ptr(), copies[i]);
  }
  arguments.args = nb::cast<nb::tuple>(replaced(arguments.args, clones));
  arguments.kwargs = nb::cast<nb::dict>(replaced(arguments.kwargs, clones));
  return arguments;
}

}  // namespace nnx_wrappers::bridge
