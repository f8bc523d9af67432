#include "graph/static_value.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "graph/local_class.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/names.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/facade.h"
#include "upstream/node.h"
#include "upstream/origin.h"
#include "upstream/variable.h"

namespace nnx_wrappers::graph {

namespace {

StaticPolicy stricter(StaticPolicy left, StaticPolicy right) { return std::max(left, right); }

// The policy of an object that cannot be copied, from that of its parts.
StaticPolicy share_or_refuse(StaticPolicy parts) {
  return parts == StaticPolicy::kShare ? StaticPolicy::kShare : StaticPolicy::kRefuse;
}

StaticPolicy policy_of_all(const std::vector<nb::object>& values, const Shared& shared) {
  StaticPolicy policy = StaticPolicy::kShare;
  for (const nb::object& value : values) policy = stricter(policy, policy_of(value, shared));
  return policy;
}

// Instances would share every mutable object that the function closes over, or has among its
// defaults and attributes.
StaticPolicy policy_of_function(nb::handle function, const Shared& shared) {
  std::vector<nb::object> contents;
  for (const nb::object& cell : py::cells_of(function)) {
    contents.push_back(py::cell_contents(cell));
    if (!contents.back().is_valid()) return StaticPolicy::kRefuse;
  }
  if (py::assigns_to_closure(function)) return StaticPolicy::kRefuse;
  const Shared with_itself(shared, function);  // a function that calls itself closes over itself
  return share_or_refuse(
      stricter(policy_of_all(contents, with_itself), policy_of_extras(function, with_itself)));
}

// An object that JAX has made of functions, which are its attributes.
StaticPolicy policy_of_wrapper(nb::handle wrapper, const Shared& shared) {
  const Shared with_itself(shared, wrapper);
  return share_or_refuse(policy_of_all(upstream::functions_inside(wrapper), with_itself));
}

StaticPolicy policy_of_method(nb::handle method, const Shared& shared) {
  return share_or_refuse(policy_of_all(
      {py::get(method, nb::str("__func__")), py::get(method, py::names().self_dunder)}, shared));
}

bool is_plain_dataclass(nb::handle value) {
  return py::is_frozen_dataclass(value.type()) && py::holds_only_attributes(value.type());
}

// What has copies, unless it existed before.
bool is_copied(nb::handle value) {
  return PyList_CheckExact(value.ptr()) != 0 || PyDict_CheckExact(value.ptr()) != 0 ||
         PySet_CheckExact(value.ptr()) != 0 || value.type().is(upstream::facade().partial) ||
         is_plain_dataclass(value);
}

// What a plain dataclass holds: not the defaults of its fields, which belong to the class.
std::vector<nb::object> attributes_of(nb::handle object) {
  std::vector<nb::object> attributes;
  const nb::object dict = py::optional_instance_dict(object);
  if (dict.is_valid()) {
    for (const auto& item : py::dict_items(dict)) attributes.push_back(item.second);
  }
  for (const nb::object& slot : py::slots_of(object.type())) {
    nb::object held = py::slot_value(slot, object);
    if (held.is_valid()) attributes.push_back(std::move(held));
  }
  return attributes;
}

std::vector<nb::object> parts_of_partial(nb::handle partial) {
  std::vector<nb::object> parts{py::get(partial, py::names().func),
                                py::get(partial, py::names().args)};
  for (const auto& item : py::mapping_items(py::get(partial, nb::str("keywords"))))
    parts.push_back(item.second);
  return parts;
}

// The policy of what a partial or a frozen dataclass holds. Of functions nobody knows for sure that
// they existed before.
StaticPolicy policy_of_parts(const std::vector<nb::object>& parts, const Shared& shared) {
  StaticPolicy policy = StaticPolicy::kShare;
  for (const nb::object& part : parts) {
    const bool is_kept = is_copied(part) && shared.existed(part);
    if (!is_kept) policy = stricter(policy, policy_of(part, shared));
  }
  return policy;
}

bool is_text(nb::handle key) { return PyUnicode_CheckExact(key.ptr()) != 0; }

// Code may change the keywords of a partial, so that each instance has a copy of one that the
// constructor made.
StaticPolicy policy_of_partial(nb::handle partial, const Shared& shared) {
  const StaticPolicy policy = policy_of_parts(parts_of_partial(partial), shared);
  if (policy == StaticPolicy::kRefuse || !shared.is_made(partial)) return share_or_refuse(policy);
  const std::vector<py::Item> keywords = py::mapping_items(py::get(partial, nb::str("keywords")));
  const bool is_plain =
      std::ranges::all_of(keywords, [](const py::Item& item) { return is_text(item.first); }) &&
      !py::dict_of_partial(partial).is_valid() &&
      !py::get(partial, py::names().func).type().is(upstream::facade().partial) &&
      !py::is_observed(partial);
  return is_plain ? StaticPolicy::kCopy : StaticPolicy::kRefuse;
}

// Code may set attributes of a frozen dataclass past its `__setattr__`, as
// functools.cached_property does, so that each instance has a copy of one that the constructor
// made.
StaticPolicy policy_of_fields(nb::handle value, const Shared& shared) {
  if (!is_plain_dataclass(value)) return StaticPolicy::kRefuse;
  const StaticPolicy policy = policy_of_parts(attributes_of(value), shared);
  if (policy == StaticPolicy::kRefuse || !shared.is_made(value)) return share_or_refuse(policy);
  return py::is_observed(value) ? StaticPolicy::kRefuse : StaticPolicy::kCopy;
}

bool is_scalar(PyObject* ptr) {
  return ptr == Py_None || ptr == Py_Ellipsis || PyBool_Check(ptr) || PyLong_CheckExact(ptr) ||
         PyFloat_CheckExact(ptr) || PyComplex_CheckExact(ptr) || PyUnicode_CheckExact(ptr) ||
         PyBytes_CheckExact(ptr);
}

bool is_immutable_type(nb::handle type) {
  const upstream::Facade& f = upstream::facade();
  for (nb::handle known :
       {f.partition_spec, f.named_sharding, f.hashable_mapping, f.mesh, f.abstract_mesh}) {
    if (type.is(known)) return true;
  }
  return py::is_subtype(type, f.enum_type) || py::is_subtype(type, f.numpy_dtype);
}

}  // namespace

StaticPolicy policy_of(nb::handle value, const Shared& shared) {
  const py::RecursionGuard guard(" while reading static attributes");
  const upstream::Facade& f = upstream::facade();
  PyObject* ptr = value.ptr();
  if (is_scalar(ptr)) return StaticPolicy::kShare;
  if (shared.contains(value)) return StaticPolicy::kShare;
  const nb::object type = nb::borrow(value.type());
  const bool is_wrapper = upstream::wraps_functions(type);
  const bool may_be_made =
      is_wrapper || PyFunction_Check(ptr) || py::is_class(value) || PyModule_Check(ptr);
  if (may_be_made && shared.is_made(value)) return StaticPolicy::kRefuse;
  if (PyModule_Check(ptr)) return StaticPolicy::kShare;
  if (py::is_class(value))
    return is_call_local(value) ? StaticPolicy::kRefuse : StaticPolicy::kShare;
  if (PyCFunction_Check(ptr))
    return py::is_free_builtin(value) ? StaticPolicy::kShare : StaticPolicy::kRefuse;
  if (PyMethod_Check(ptr)) return policy_of_method(value, shared);
  if (PyTuple_CheckExact(ptr)) return policy_of_all(py::elements(value), shared);
  if (PyFrozenSet_CheckExact(ptr))
    return share_or_refuse(policy_of_all(py::elements(value), shared));
  if (PyList_CheckExact(ptr))
    return stricter(StaticPolicy::kCopy, policy_of_all(py::elements(value), shared));
  if (PySet_CheckExact(ptr)) {  // its copy holds the same elements
    return stricter(StaticPolicy::kCopy,
                    share_or_refuse(policy_of_all(py::elements(value), shared)));
  }
  if (PyDict_CheckExact(ptr)) {
    StaticPolicy policy = StaticPolicy::kCopy;
    for (const auto& [key, item] : py::dict_items(value)) {
      policy = stricter(policy,
                        stricter(share_or_refuse(policy_of(key, shared)), policy_of(item, shared)));
    }
    return policy;
  }
  if (PyFunction_Check(ptr)) return policy_of_function(value, shared);
  if (is_immutable_type(type)) return StaticPolicy::kShare;
  if (is_wrapper)
    return shared.tells_made() ? StaticPolicy::kShare : policy_of_wrapper(value, shared);
  if (type.is(f.partial)) return policy_of_partial(value, shared);
  if (type.is(f.frozen_dict)) {
    std::vector<nb::object> parts;
    for (const auto& item : py::mapping_items(value)) parts.push_back(item.second);
    return share_or_refuse(policy_of_all(parts, shared));
  }
  if (py::is_subtype(type, f.linen_module)) return StaticPolicy::kRefuse;
  if (upstream::kind_of(value) == upstream::NodeKind::kLeaf &&
      py::is_frozen_dataclass(value.type())) {
    return policy_of_fields(value, shared);
  }
  return StaticPolicy::kRefuse;
}

StaticPolicy policy_of_extras(nb::handle function, const Shared& shared) {
  const py::Names& n = py::names();
  std::vector<nb::object> extras{py::get(function, n.defaults_dunder)};
  const nb::object keywords = py::get(function, n.kwdefaults_dunder);
  if (!keywords.is_none()) {
    for (const auto& item : py::mapping_items(keywords)) extras.push_back(item.second);
  }
  // The attributes of a local function may be its state.
  const std::string name = py::utf8(py::get(function, n.qualname_dunder));
  const bool is_local = name.find(kLocals) != std::string::npos;
  for (const auto& [key, value] : py::mapping_items(py::get(function, n.dict_dunder))) {
    if (is_local && !key.equal(n.wrapped_dunder)) return StaticPolicy::kRefuse;
    extras.push_back(value);
  }
  return policy_of_all(extras, shared);
}

void add_kept(nb::handle value, const Shared& shared, py::IdentitySet& kept) {
  const py::RecursionGuard guard(" while reading static attributes");
  if (is_copied(value) && shared.existed(value)) {
    kept.insert(value);
  } else if (py::is_list_or_tuple(value)) {
    for (const nb::object& element : py::elements(value)) add_kept(element, shared, kept);
  } else if (PyDict_CheckExact(value.ptr()) != 0) {
    for (const auto& item : py::dict_items(value)) add_kept(item.second, shared, kept);
  } else if (value.type().is(upstream::facade().partial)) {
    for (const nb::object& part : parts_of_partial(value)) add_kept(part, shared, kept);
  } else if (is_plain_dataclass(value)) {
    for (const nb::object& part : attributes_of(value)) add_kept(part, shared, kept);
  }
}

nb::object StaticCopies::copy_of_partial(nb::handle partial) {
  nb::dict keywords;
  for (const auto& [key, value] : py::mapping_items(py::get(partial, nb::str("keywords"))))
    keywords[key] = copy(value);
  return upstream::facade().partial(copy(py::get(partial, py::names().func)),
                                    *copy(py::get(partial, py::names().args)), **keywords);
}

// Runs no code of the class.
nb::object StaticCopies::copy_of_attributes(nb::handle object) {
  nb::object made = py::allocate(object.type());
  const nb::object dict = py::optional_instance_dict(object);
  if (dict.is_valid()) {
    const nb::dict attributes = py::instance_dict(made);
    for (const auto& [name, value] : py::dict_items(dict)) attributes[name] = copy(value);
  }
  for (const nb::object& slot : py::slots_of(object.type())) {
    const nb::object held = py::slot_value(slot, object);
    if (held.is_valid()) py::set_slot(slot, made, copy(held));
  }
  return made;
}

nb::object StaticCopies::copy(nb::handle value) {
  const py::RecursionGuard guard(" while copying static attributes");
  PyObject* ptr = value.ptr();
  const bool is_tuple = PyTuple_CheckExact(ptr) != 0;
  if ((!is_tuple && !is_copied(value)) || kept_.contains(value)) return nb::borrow(value);
  const auto known = known_.find(ptr);
  if (known != known_.end()) return known->second.copy;
  nb::object made;
  if (PyDict_CheckExact(ptr) != 0) {
    nb::dict items;
    for (const auto& [key, item] : py::dict_items(value)) items[key] = copy(item);
    made = std::move(items);
  } else if (PySet_CheckExact(ptr) != 0) {
    made = value.type()(value);
  } else if (PyList_CheckExact(ptr) != 0 || is_tuple) {
    nb::list elements;
    bool is_same = true;
    for (const nb::object& element : py::elements(value)) {
      elements.append(copy(element));
      is_same = is_same && elements[nb::len(elements) - 1].is(element);
    }
    if (is_tuple)
      made = is_same ? nb::borrow(value) : nb::object(nb::tuple(elements));
    else
      made = std::move(elements);
  } else {
    made = value.type().is(upstream::facade().partial) ? copy_of_partial(value)
                                                       : copy_of_attributes(value);
  }
  known_.emplace(ptr, Copied{nb::borrow(value), made});
  return made;
}

}  // namespace nnx_wrappers::graph
