#include "graph/static_value.h"

#include <algorithm>

#include "flax/facade.h"
#include "flax/node.h"
#include "flax/variable.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/names.h"
#include "py/object.h"
#include "py/recursion.h"

namespace nnx_wrappers::graph {

namespace {

using Shared = std::vector<nb::object>;

Keeping worse(Keeping left, Keeping right) { return std::max(left, right); }

Keeping of_all(const std::vector<nb::object>& values, const Shared& shared) {
  Keeping keeping = Keeping::kShare;
  for (const nb::object& value : values) keeping = worse(keeping, keeping_of(value, shared));
  return keeping;
}

// A function is code and what it closes over; a mutable thing in its closure would
// be shared between instances.
Keeping of_function(nb::handle function, const Shared& shared) {
  std::vector<nb::object> contents;
  for (const nb::object& cell : py::cells_of(function)) {
    contents.push_back(py::cell_contents(cell));
    if (!contents.back().is_valid()) return Keeping::kRefuse;
  }
  if (py::assigns_to_closure(function)) return Keeping::kRefuse;
  Shared with_itself = shared;  // a function that calls itself closes over itself
  with_itself.push_back(nb::borrow(function));
  return of_all(contents, with_itself) == Keeping::kShare ? Keeping::kShare : Keeping::kRefuse;
}

bool is_frozen_dataclass(nb::handle value) {
  const nb::object params = py::get_optional(value.type(), nb::str("__dataclass_params__"));
  return params.is_valid() && nb::cast<bool>(nb::bool_(py::get(params, nb::str("frozen"))));
}

Keeping of_fields(nb::handle value, const Shared& shared) {
  std::vector<nb::object> fields;
  const nb::object names = py::get(value, nb::str("__dataclass_fields__"));
  for (const auto& item : py::mapping_items(names)) {
    fields.push_back(py::get(value, item.first));
  }
  return of_all(fields, shared) == Keeping::kShare ? Keeping::kShare : Keeping::kRefuse;
}

bool is_scalar(PyObject* ptr) {
  return ptr == Py_None || ptr == Py_Ellipsis || PyBool_Check(ptr) || PyLong_CheckExact(ptr) ||
         PyFloat_CheckExact(ptr) || PyComplex_CheckExact(ptr) || PyUnicode_CheckExact(ptr) ||
         PyBytes_CheckExact(ptr);
}

bool is_immutable_type(nb::handle type) {
  const flax::Facade& f = flax::facade();
  for (nb::handle known : {f.partition_spec, f.named_sharding, f.jit_function, f.custom_jvp,
                           f.custom_vjp, f.ufunc, f.hashable_mapping, f.mesh, f.abstract_mesh}) {
    if (type.is(known)) return true;
  }
  return py::is_subtype(type, f.enum_type) || py::is_subtype(type, f.numpy_dtype);
}

}  // namespace

Keeping keeping_of(nb::handle value, const Shared& shared) {
  const py::RecursionGuard guard(" while reading static attributes");
  const flax::Facade& f = flax::facade();
  PyObject* ptr = value.ptr();
  if (is_scalar(ptr) || py::is_class(value) || PyCFunction_Check(ptr) != 0) {
    // A builtin method is bound to its object.
    if (PyCFunction_CheckExact(ptr) == 0) return Keeping::kShare;
    const nb::object owner = py::get(value, py::names().self_dunder);
    return owner.is_none() || PyModule_Check(owner.ptr()) ? Keeping::kShare : Keeping::kRefuse;
  }
  for (const nb::object& object : shared) {
    if (object.is(value)) return Keeping::kShare;
  }
  if (PyTuple_CheckExact(ptr)) return of_all(py::elements(value), shared);
  if (PyFrozenSet_CheckExact(ptr)) return of_all(py::elements(value), shared);
  if (PyList_CheckExact(ptr) || PySet_Check(ptr)) {
    return worse(Keeping::kCopy, of_all(py::elements(value), shared));
  }
  if (PyDict_CheckExact(ptr)) {
    Keeping keeping = Keeping::kCopy;
    for (const auto& [key, item] : py::dict_items(value)) {
      keeping = worse(keeping, worse(keeping_of(key, shared), keeping_of(item, shared)));
    }
    return keeping;
  }
  if (PyFunction_Check(ptr)) return of_function(value, shared);
  const nb::handle type = value.type();
  if (is_immutable_type(type)) return Keeping::kShare;
  if (type.is(f.partial)) {
    const Keeping parts = worse(keeping_of(py::get(value, py::names().func), shared),
                                worse(keeping_of(py::get(value, py::names().args), shared),
                                      keeping_of(py::get(value, nb::str("keywords")), shared)));
    // The dict of keywords is the partial's own, and as constant as it.
    return parts == Keeping::kRefuse ? Keeping::kRefuse : Keeping::kShare;
  }
  if (type.is(f.frozen_dict)) {
    std::vector<nb::object> parts;
    for (const auto& item : py::mapping_items(value)) parts.push_back(item.second);
    return of_all(parts, shared) == Keeping::kShare ? Keeping::kShare : Keeping::kRefuse;
  }
  if (py::is_subtype(type, f.linen_module)) return Keeping::kRefuse;
  if (flax::kind_of(value) == flax::NodeKind::kLeaf && is_frozen_dataclass(value)) {
    return of_fields(value, shared);
  }
  return Keeping::kRefuse;
}

nb::object copy_static(nb::handle value) {
  PyObject* ptr = value.ptr();
  if (PyList_CheckExact(ptr)) {
    nb::list copy;
    for (const nb::object& element : py::elements(value)) copy.append(copy_static(element));
    return copy;
  }
  if (PyDict_CheckExact(ptr)) {
    nb::dict copy;
    for (const auto& [key, item] : py::dict_items(value)) copy[key] = copy_static(item);
    return copy;
  }
  if (PyTuple_CheckExact(ptr)) {
    nb::list copy;
    for (const nb::object& element : py::elements(value)) copy.append(copy_static(element));
    return nb::tuple(copy);
  }
  if (PySet_Check(ptr)) return value.type()(value);
  return nb::borrow(value);
}

}  // namespace nnx_wrappers::graph
