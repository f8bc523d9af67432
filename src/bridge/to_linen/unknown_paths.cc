#include "bridge/to_linen/unknown_paths.h"

#include <string>

#include "bridge/convert/given_variables.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/node.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

[[noreturn]] void refuse_path(const graph::Path& path, const std::string& expected,
                              const std::string& got) {
  raise_value_error({std::string(kApply) + ", " + graph::to_string(path), expected, got,
                     "Remove the path from the variables."});
}

// The child with this key, or with the text of this key. An invalid object if there is none.
nb::object child_of(nb::handle node, upstream::NodeKind kind, nb::handle key) {
  if (kind == upstream::NodeKind::kLeaf || kind == upstream::NodeKind::kVariable ||
      kind == upstream::NodeKind::kArrayRef) {
    return {};
  }
  const std::string text = py::utf8(key);
  for (const upstream::Child& child : upstream::children_of(node, kind)) {
    if (py::utf8(child.key) == text) return child.value;
  }
  return {};
}

// A static attribute or a class attribute of a node.
nb::object attribute_besides(nb::handle node, nb::handle name) {
  nb::object found = py::dict_get(py::instance_dict(node), name);
  return found.is_valid() ? found : py::class_attribute(node.type(), name);
}

void append_to(nb::list list, nb::handle key, const graph::Path& path) {
  constexpr Py_ssize_t kMaxMissing = 1000;
  const bool is_index = PyLong_Check(key.ptr()) != 0;
  const Py_ssize_t index = is_index ? PyNumber_AsSsize_t(key.ptr(), nullptr) : -1;
  if (index < 0 || index - PyList_Size(list.ptr()) > kMaxMissing) {
    refuse_path(path, "an index into a list of modules", py::describe(key));
  }
  while (PyList_Size(list.ptr()) <= index) list.append(upstream::facade().nnx_module());
}

// The child of `current` at `key`, made as an empty module if it is missing. `path` is for errors.
nb::object step_down(nb::handle current, nb::handle key, const graph::Path& path) {
  const upstream::NodeKind kind = upstream::kind_of(current);
  nb::object next = child_of(current, kind, key);
  if (next.is_valid()) return next;
  switch (kind) {
    case upstream::NodeKind::kLeaf:
    case upstream::NodeKind::kVariable:
    case upstream::NodeKind::kArrayRef:
      refuse_path(path, "a module on the way", py::describe(current));
    case upstream::NodeKind::kDict:
      next = upstream::facade().nnx_module();
      current[key] = next;
      return next;
    case upstream::NodeKind::kList:
      append_to(nb::borrow<nb::list>(current), key, path);
      return child_of(current, kind, key);
    case upstream::NodeKind::kPytree:
    case upstream::NodeKind::kGraphNode: {
      const nb::str name(key);
      const nb::object present = attribute_besides(current, name);
      if (present.is_valid()) refuse_path(path, "a module on the way", py::describe(present));
      next = upstream::facade().nnx_module();
      py::set(current, name, next);
      return next;
    }
    case upstream::NodeKind::kTuple:
      refuse_path(path, "an element of a tuple that is there", py::describe(key));
    case upstream::NodeKind::kPytreeNode:
      refuse_path(path, "a part of a pytree that is there", py::describe(key));
  }
  throw InternalError("a node of no kind");
}

}  // namespace

void UnknownPaths::add(const graph::Path& path,
                       const std::function<nb::object(nb::handle)>& choose) {
  nb::object owner = nb::borrow(module_);
  for (size_t i = 0; owner.is_valid() && i + 1 < path.size(); ++i) {
    owner = child_of(owner, upstream::kind_of(owner), path[i]);
  }
  if (owner.is_valid() && upstream::kind_of(owner) == upstream::NodeKind::kPytree) {
    const nb::object current = py::dict_get(py::instance_dict(owner), nb::str(path.back()));
    if (current.is_valid() && upstream::is_tracer(current)) {
      upstream::set_child(owner, upstream::NodeKind::kPytree, path.back(), choose(current));
      return;
    }
  }
  noted_.push_back(path);
}

void UnknownPaths::build() const {
  if (noted_.empty()) return;
  for (const graph::Path& path : noted_) {
    nb::object current = nb::borrow(module_);
    for (size_t i = 0; i + 1 < path.size(); ++i) current = step_down(current, path[i], path);
  }
  const std::string text =
      "Found unknown module paths in incoming state:" + graph::to_lines(noted_) +
      "\nIntermediate modules have been reconstructed; the values are unused. What a method makes "
      "when it is called cannot be given variables: make it in __init__.";
  upstream::facade().warn(text, nb::arg("stacklevel") = 2);
}

}  // namespace nnx_wrappers::bridge
