#include "upstream/node.h"

#include <string>

#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/private_names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::upstream {

namespace {

bool is_tuple_type(nb::handle type) {
  return py::is_subtype(type, nb::handle(reinterpret_cast<PyObject*>(&PyTuple_Type)));
}

// The key that Flax's paths have for an attribute: an integer in an nnx.List.
nb::object path_key(nb::handle name, bool has_int_keys) {
  if (has_int_keys) {
    PyObject* number = PyLong_FromUnicodeObject(name.ptr(), 10);
    if (number != nullptr) return nb::steal(number);
    PyErr_Clear();
  }
  return nb::borrow(name);
}

// Sorts integers before strings, as Flax orders the attributes of an nnx.List.
void sort_numbers_first(std::vector<py::Item>& items) {
  std::vector<py::Item> numbers;
  std::vector<py::Item> strings;
  for (py::Item& item : items) {
    (nb::isinstance<nb::int_>(item.first) ? numbers : strings).push_back(std::move(item));
  }
  py::sort_by_key(numbers);
  py::sort_by_key(strings);
  items = std::move(numbers);
  for (py::Item& item : strings) items.push_back(std::move(item));
}

// Appends a child unless it is a static attribute for Flax. `is_marked_data`: the node says itself
// that the value is data.
void append(std::vector<Child>& children, nb::object key, nb::object value, bool is_marked_data) {
  const NodeKind kind = kind_of(value);
  if (kind == NodeKind::kLeaf && !is_marked_data && !is_array(value)) return;
  children.push_back({std::move(key), std::move(value), kind});
}

// A dict that says for each attribute whether it is data. Not to be changed.
nb::dict data_names_of(nb::handle node) {
  const nb::object names = py::get(node, private_names().pytree_nodes);
  if (names.type().is(facade().hashable_mapping)) {
    nb::object contents = py::get(names, private_names().mapping_contents);
    if (PyDict_CheckExact(contents.ptr()) != 0) return nb::borrow<nb::dict>(contents);
  }
  return py::to_dict(names);
}

nb::object impl_of(nb::handle node) {
  nb::object impl = facade().get_node_impl(node);
  if (impl.is_none()) throw InternalError("a node without a Flax node implementation");
  return impl;
}

}  // namespace

std::vector<Child> pytree_children(nb::handle node) {
  const PrivateNames& n = private_names();
  const bool marks_data = facade().has_data_marks && py::truthy(py::get(node, n.is_pytree));
  // Before Flax 0.12.4 the attributes of an nnx.List are named by integers as they stand.
  const nb::object texts_for_numbers = py::class_attribute(node.type(), n.has_int_keys);
  const bool has_int_keys = texts_for_numbers.is_valid() && py::truthy(texts_for_numbers);
  bool has_numbers = has_int_keys;
  const nb::object data_names = marks_data ? data_names_of(node) : nb::object();
  std::vector<py::Item> items;
  for (auto& [name, value] : py::dict_items(py::instance_dict(node))) {
    if (name.is(n.pytree_state)) continue;  // Flax's flags, which are no child
    if (marks_data) {
      const nb::object is_data = py::dict_get(data_names, name);
      if (!is_data.is_valid() || !py::truthy(is_data)) continue;
    }
    has_numbers = has_numbers || PyLong_Check(name.ptr()) != 0;
    items.emplace_back(path_key(name, has_int_keys), std::move(value));
  }
  if (has_numbers) {
    sort_numbers_first(items);
  } else {
    py::sort_by_key(items);
  }
  std::vector<Child> children;
  children.reserve(items.size());
  for (auto& [key, value] : items) append(children, std::move(key), std::move(value), marks_data);
  return children;
}

std::vector<Child> children_by_flax(nb::handle node) {
  const Facade& f = facade();
  std::vector<Child> children;
  const nb::object flattened = py::get(impl_of(node), private_names().flatten)(node);
  for (const nb::object& pair : py::elements(flattened[0])) {
    nb::object value = pair[1];
    if (py::is_subtype(value.type(), f.static_elem)) continue;
    if (pair[0].equal(private_names().pytree_state)) continue;  // flags, never state
    const bool is_marked_data = py::is_subtype(value.type(), f.data_elem);
    if (is_marked_data) value = py::get(value, private_names().value);
    append(children, pair[0], std::move(value), is_marked_data);
  }
  return children;
}

bool is_pytree(nb::handle object) { return py::is_subtype(object.type(), facade().pytree); }

NodeKind kind_of(nb::handle object) {
  const Facade& f = facade();
  PyObject* ptr = object.ptr();
  if (ptr == Py_None) return NodeKind::kPytreeNode;
  if (PyList_CheckExact(ptr)) return NodeKind::kList;
  if (PyDict_CheckExact(ptr)) return NodeKind::kDict;
  if (PyTuple_CheckExact(ptr)) return NodeKind::kTuple;
  if (is_variable(object)) return NodeKind::kVariable;
  const nb::handle type = object.type();
  if (py::contains(f.graph_registry, type)) {
    if (is_pytree(object) && has(Feature::kFastWalk) &&
        py::get(type, private_names().graph_node_flatten).is(f.pytree_flatten)) {
      return NodeKind::kPytree;
    }
    return NodeKind::kGraphNode;
  }
  if (py::contains(f.pytree_registry, type) || py::contains(f.jax_pytree_registry, type) ||
      is_tuple_type(type)) {
    return NodeKind::kPytreeNode;
  }
  return is_array_ref(object) ? NodeKind::kArrayRef : NodeKind::kLeaf;
}

std::vector<Child> children_of(nb::handle node, NodeKind kind) {
  std::vector<Child> children;
  switch (kind) {
    case NodeKind::kPytree:
      return pytree_children(node);
    case NodeKind::kList:
    case NodeKind::kTuple: {
      size_t index = 0;
      for (nb::object& value : py::elements(node)) {
        append(children, nb::int_(index++), std::move(value), false);
      }
      return children;
    }
    case NodeKind::kDict: {
      auto items = py::dict_items(node);
      py::sort_by_key(items);
      for (auto& [key, value] : items) append(children, std::move(key), std::move(value), false);
      return children;
    }
    case NodeKind::kGraphNode:
    case NodeKind::kPytreeNode:
      return node.is_none() ? children : children_by_flax(node);
    case NodeKind::kLeaf:
    case NodeKind::kVariable:
    case NodeKind::kArrayRef:
      break;
  }
  throw InternalError("children_of a value");
}

bool set_child(nb::handle node, NodeKind kind, nb::handle key, nb::handle value) {
  switch (kind) {
    case NodeKind::kList:
    case NodeKind::kDict:
      node[key] = value;
      return true;
    case NodeKind::kPytree:
      if (py::contains(py::instance_dict(node), key) && PyLong_Check(key.ptr()) != 0) {
        py::instance_dict(node)[key] = value;  // no attribute that Flax's own function can set
        return true;
      }
      [[fallthrough]];
    case NodeKind::kGraphNode:
    case NodeKind::kPytreeNode: {
      const nb::object set_key = py::get(impl_of(node), private_names().set_key);
      if (set_key.is_none()) return false;
      set_key(node, key, value);
      return true;
    }
    default:
      return false;
  }
}

nb::object rebuild(nb::handle node, NodeKind kind, const std::vector<Child>& children) {
  if (kind == NodeKind::kTuple) {
    nb::list values = nb::list(node);
    for (const Child& child : children) values[nb::cast<size_t>(child.key)] = child.value;
    return nb::tuple(values);
  }
  // Flax's unflatten takes all (key, value) pairs, those of static attributes included.
  const nb::object impl = impl_of(node);
  const nb::object flattened = py::get(impl, private_names().flatten)(node);
  nb::list pairs;
  for (const nb::object& pair : py::elements(flattened[0])) {
    nb::object value = pair[1];
    for (const Child& child : children) {
      if (py::equal(child.key, pair[0])) value = child.value;
    }
    pairs.append(nb::make_tuple(pair[0], value));
  }
  return py::get(impl, private_names().unflatten)(pairs, flattened[1]);
}

}  // namespace nnx_wrappers::upstream
