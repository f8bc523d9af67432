#include "upstream/array.h"

#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/names.h"

namespace nnx_wrappers::upstream {

namespace {

// True for objects of common types that are no arrays.
bool is_known_non_array(nb::handle object) {
  PyObject* ptr = object.ptr();
  return ptr == Py_None || PyBool_Check(ptr) || PyLong_CheckExact(ptr) || PyFloat_CheckExact(ptr) ||
         PyUnicode_CheckExact(ptr) || PyTuple_CheckExact(ptr) || PyList_CheckExact(ptr) ||
         PyDict_CheckExact(ptr) || PyFunction_Check(ptr) || py::is_class(object);
}

bool is_concrete_array(nb::handle type) {
  const Facade& f = facade();
  return type.is(f.array_impl) || type.is(f.prng_key_array);
}

// True for a tracer of an array: neither of a ref nor of a hijax type.
bool is_plain_tracer(nb::handle object) {
  return is_tracer(object) && py::get(object, names().aval).type().is(facade().shaped_array);
}

}  // namespace

bool is_jax_array(nb::handle object) {
  if (is_concrete_array(object.type()) || is_plain_tracer(object)) return true;
  return !is_known_non_array(object) && py::is_instance(object, facade().jax_array);
}

nb::object shape_of(nb::handle array) {
  const Names& n = names();
  return py::get(is_tracer(array) ? py::get(array, n.aval) : nb::borrow(array), n.shape);
}

bool is_array(nb::handle object) {
  return py::is_subtype(object.type(), facade().numpy_array) || is_jax_array(object);
}

bool is_deleted(nb::handle array) {
  if (!is_concrete_array(array.type())) return false;
  return nb::cast<bool>(array.attr("is_deleted")());
}

bool is_array_ref(nb::handle object) {
  const nb::handle type = object.type();
  const Facade& f = facade();
  if (is_concrete_array(type) || is_known_non_array(object) ||
      py::is_subtype(type, f.numpy_array)) {
    return false;
  }
  if (is_plain_tracer(object)) return false;
  return f.is_array_ref.is_valid() && nb::cast<bool>(f.is_array_ref(object));
}

bool is_tracer(nb::handle object) { return py::is_subtype(object.type(), facade().tracer); }

}  // namespace nnx_wrappers::upstream
