#include "flax/static_key.h"

#include <initializer_list>
#include <vector>

#include "flax/facade.h"
#include "flax/linen.h"
#include "flax/node.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/recursion.h"

namespace nnx_wrappers::flax {

namespace {

nb::object weak(nb::handle object) {
  PyObject* reference = PyWeakref_NewRef(object.ptr(), nullptr);
  if (reference == nullptr) {
    PyErr_Clear();
    return {};
  }
  return nb::steal(reference);
}

bool is_exactly_one_of(nb::handle object, std::initializer_list<PyTypeObject*> types) {
  for (PyTypeObject* type : types) {
    if (object.type().ptr() == reinterpret_cast<PyObject*>(type)) return true;
  }
  return false;
}

// (kind, part, part, ...), or invalid if one of the parts is.
nb::object tagged(const char* kind, std::initializer_list<nb::object> parts) {
  nb::list key;
  key.append(nb::str(kind));
  for (const nb::object& part : parts) {
    if (!part.is_valid()) return {};
    key.append(part);
  }
  return nb::tuple(key);
}

nb::object keys_of(const std::vector<nb::object>& objects, Unknown unknown) {
  nb::list keys;
  for (const nb::object& object : objects) {
    nb::object key = static_key(object, unknown);
    if (!key.is_valid()) return {};
    keys.append(key);
  }
  return nb::tuple(keys);
}

nb::object items_key(const std::vector<py::Item>& items, Unknown unknown) {
  nb::list keys;
  for (const auto& [name, value] : items) {
    nb::object name_key = static_key(name, unknown);
    nb::object value_key = static_key(value, unknown);
    if (!name_key.is_valid() || !value_key.is_valid()) return {};
    keys.append(nb::make_tuple(name_key, value_key));
  }
  return nb::tuple(keys);
}

nb::object function_key(nb::handle function, Unknown unknown) {
  const nb::object closure = py::get(function, nb::str("__closure__"));
  if (closure.is_none()) return weak(function);
  std::vector<nb::object> cells;
  for (const nb::object& cell : py::elements(closure)) {
    try {
      cells.push_back(py::get(cell, nb::str("cell_contents")));
    } catch (nb::python_error& error) {
      if (!error.matches(PyExc_ValueError)) throw;
      return {};  // an empty cell: the function is still being defined
    }
  }
  const nb::object keyword_defaults = py::get(function, nb::str("__kwdefaults__"));
  nb::object keywords = nb::make_tuple();
  if (!keyword_defaults.is_none()) keywords = items_key(py::dict_items(keyword_defaults), unknown);
  return tagged("function",
                {py::get(function, nb::str("__code__")), keys_of(cells, unknown),
                 static_key(py::get(function, nb::str("__defaults__")), unknown), keywords});
}

nb::object linen_module_key(nb::handle module, Unknown unknown) {
  if (unknown == Unknown::kByHash && !py::get(module, py::names().scope).is_none()) return {};
  const py::Names& n = py::names();
  const nb::object fields = py::get(module, nb::str("__dataclass_fields__"));
  nb::list keys;
  for (const auto& [name, field] : py::mapping_items(fields)) {
    if (name.equal(nb::str("parent")) || name.equal(n.name)) continue;
    nb::object key = static_key(py::get(module, name), unknown);
    if (!key.is_valid()) return {};
    keys.append(nb::make_tuple(name, key));
  }
  return tagged("linen", {weak(module.type()), nb::tuple(keys)});
}

}  // namespace

nb::object static_key(nb::handle object, Unknown unknown) {
  const py::RecursionGuard guard(" while reading static arguments");
  const Facade& f = facade();
  PyObject* ptr = object.ptr();
  if (object.is_none() || ptr == Py_True || ptr == Py_False || ptr == Py_Ellipsis ||
      is_exactly_one_of(object, {&PyUnicode_Type})) {
    return nb::borrow(object);
  }
  if (is_exactly_one_of(object, {&PyLong_Type, &PyFloat_Type, &PyComplex_Type, &PyBytes_Type})) {
    // repr tells 0.0 from -0.0, and equals itself for nan.
    const bool is_float = is_exactly_one_of(object, {&PyFloat_Type, &PyComplex_Type});
    return nb::make_tuple(object.type(),
                          is_float ? nb::object(nb::repr(object)) : nb::borrow(object));
  }
  if (py::is_class(object)) return weak(object);
  if (is_exactly_one_of(object, {&PyTuple_Type})) return keys_of(py::elements(object), unknown);
  if (is_exactly_one_of(object, {&PyList_Type})) {
    return tagged("list", {keys_of(py::elements(object), unknown)});
  }
  if (is_exactly_one_of(object, {&PyDict_Type})) {
    return tagged("dict", {items_key(py::dict_items(object), unknown)});
  }
  if (is_exactly_one_of(object, {&PyFunction_Type})) return function_key(object, unknown);
  if (is_exactly_one_of(object, {&PyCFunction_Type})) return nb::borrow(object);
  if (is_exactly_one_of(object, {&PyMethod_Type})) {
    return tagged("method", {static_key(py::get(object, nb::str("__func__")), unknown),
                             static_key(py::get(object, py::names().self_dunder), unknown)});
  }
  const nb::handle type = object.type();
  if (type.is(f.partial)) {
    return tagged("partial",
                  {static_key(py::get(object, py::names().func), unknown),
                   static_key(py::get(object, py::names().args), unknown),
                   items_key(py::dict_items(py::get(object, nb::str("keywords"))), unknown)});
  }
  if (type.is(f.frozen_dict))
    return tagged("frozen", {items_key(py::dict_items(level_dict(object)), unknown)});
  if (type.is(f.partition_spec) || py::is_subtype(type, f.enum_type) ||
      py::is_subtype(type, f.numpy_dtype)) {
    return nb::make_tuple(type, object);
  }
  if (type.is(f.jit_function) || type.is(f.custom_jvp) || type.is(f.custom_vjp) ||
      type.is(f.ufunc)) {
    return weak(object);
  }
  if (py::is_subtype(type, f.linen_module)) return linen_module_key(object, unknown);
  if (unknown == Unknown::kRefuse || kind_of(object) != NodeKind::kLeaf) return {};
  if (PyObject_Hash(ptr) == -1) {
    PyErr_Clear();
    return {};
  }
  return nb::make_tuple(type, object);
}

}  // namespace nnx_wrappers::flax
