#include "graph/pin.h"

#include <bit>
#include <cstdint>

namespace nnx_wrappers::graph {

namespace {

std::uint64_t bits(double number) { return std::bit_cast<std::uint64_t>(number); }

// True for equal numbers, texts, bytes and tuples of such. Instances of subclasses are not equal,
// since comparing them could run user code.
bool are_equal(PyObject* left, PyObject* right, int depth) {
  constexpr int kMaxDepth = 8;
  if (left == right) return true;
  PyTypeObject* type = Py_TYPE(left);
  if (type != Py_TYPE(right)) return false;
  if (type == &PyFloat_Type) {  // bit for bit: 0.0 differs from -0.0, and nan equals itself
    return bits(PyFloat_AS_DOUBLE(left)) == bits(PyFloat_AS_DOUBLE(right));
  }
  if (type == &PyComplex_Type) {
    const Py_complex a = PyComplex_AsCComplex(left);
    const Py_complex b = PyComplex_AsCComplex(right);
    return bits(a.real) == bits(b.real) && bits(a.imag) == bits(b.imag);
  }
  if (type == &PyLong_Type || type == &PyUnicode_Type || type == &PyBytes_Type) {
    return PyObject_RichCompareBool(left, right, Py_EQ) == 1;
  }
  if (type != &PyTuple_Type || depth == kMaxDepth) return false;
  const Py_ssize_t size = PyTuple_GET_SIZE(left);
  if (size != PyTuple_GET_SIZE(right)) return false;
  for (Py_ssize_t i = 0; i < size; ++i) {
    if (!are_equal(PyTuple_GET_ITEM(left, i), PyTuple_GET_ITEM(right, i), depth + 1)) return false;
  }
  return true;
}

}  // namespace

bool is_atom(PyObject* object) {
  const PyTypeObject* type = Py_TYPE(object);
  return object == Py_None || object == Py_Ellipsis || object == Py_NotImplemented ||
         type == &PyBool_Type || type == &PyLong_Type || type == &PyFloat_Type ||
         type == &PyUnicode_Type || type == &PyBytes_Type || type == &PyComplex_Type;
}

Pin::Pin(nb::handle object) : object_(object.ptr()) {
  // Numbers, texts, tuples, lists and dicts do not support weak references.
  if (object_ != nullptr && PyType_SUPPORTS_WEAKREFS(Py_TYPE(object_))) {
    weak_ = nb::steal(PyWeakref_NewRef(object_, nullptr));
    if (!weak_.is_valid()) throw nb::python_error();
  } else {
    strong_ = nb::borrow(object);
  }
}

bool Pin::is_equal(PyObject* now) const { return are_equal(object_, now, 0); }

}  // namespace nnx_wrappers::graph
