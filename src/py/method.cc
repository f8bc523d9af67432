#include "py/method.h"

#include <array>
#include <cstddef>
#include <exception>

#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers::py {

namespace {

// An object of CPython. It owns its fields, which are null only after the garbage collector has
// cleared them.
struct Method {
  PyObject_HEAD PyObject* base;
  PyObject* name;
  PyObject* data;
  OverrideBody body;
};

Method* method_of(PyObject* self) { return reinterpret_cast<Method*>(self); }

PyObject* replaced(PyObject* self) {
  if (method_of(self)->base == nullptr) {
    PyErr_SetString(PyExc_ReferenceError, "a method of a class that was collected");
    return nullptr;
  }
  return PyObject_GetAttr(method_of(self)->base, method_of(self)->name);
}

PyObject* call_method(PyObject* self, PyObject* args, PyObject* kwargs) {
  const nb::object function = nb::steal(replaced(self));
  if (!function.is_valid()) return nullptr;
  try {
    const nb::dict keywords = kwargs == nullptr ? nb::dict() : nb::borrow<nb::dict>(kwargs);
    const Method* method = method_of(self);
    return method->body(function, method->data, nb::borrow<nb::tuple>(args), keywords)
        .release()
        .ptr();
  } catch (nb::python_error& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyObject* bind(PyObject* self, PyObject* instance, PyObject* /*type*/) {
  if (instance == nullptr) return Py_NewRef(self);
  return PyMethod_New(self, instance);
}

PyObject* get_replaced(PyObject* self, void* /*unused*/) { return replaced(self); }

// Reads an attribute of the overridden method; `closure` is its name.
PyObject* get_forwarded(PyObject* self, void* closure) {
  const nb::object function = nb::steal(replaced(self));
  if (!function.is_valid()) return nullptr;
  return PyObject_GetAttrString(function.ptr(), static_cast<const char*>(closure));
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(method_of(self)->base);
  Py_VISIT(method_of(self)->name);
  Py_VISIT(method_of(self)->data);
  return 0;
}

int clear(PyObject* self) {
  Py_CLEAR(method_of(self)->base);
  Py_CLEAR(method_of(self)->name);
  Py_CLEAR(method_of(self)->data);
  return 0;
}

void deallocate(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  clear(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// NOLINTBEGIN(modernize-avoid-c-arrays): CPython wants char*
char name_text[] = "__name__";
char qualname_text[] = "__qualname__";
char module_text[] = "__module__";
char doc_text[] = "__doc__";
// NOLINTEND(modernize-avoid-c-arrays)

std::array<PyGetSetDef, 6> attributes = {{
    {"__wrapped__", get_replaced, nullptr, nullptr, nullptr},
    {name_text, get_forwarded, nullptr, nullptr, name_text},
    {qualname_text, get_forwarded, nullptr, nullptr, qualname_text},
    {module_text, get_forwarded, nullptr, nullptr, module_text},
    {doc_text, get_forwarded, nullptr, nullptr, doc_text},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
}};

template <typename Function>
void* slot(Function* function) {
  return reinterpret_cast<void*>(function);
}

nb::handle make_type() {
  std::array<PyType_Slot, 7> slots = {{
      {Py_tp_call, slot(call_method)},
      {Py_tp_descr_get, slot(bind)},
      {Py_tp_traverse, slot(traverse)},
      {Py_tp_clear, slot(clear)},
      {Py_tp_dealloc, slot(deallocate)},
      {Py_tp_getset, attributes.data()},
      {0, nullptr},
  }};
  PyType_Spec spec = {"nnx_wrappers._core.Method", sizeof(Method), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                      slots.data()};
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw nb::python_error();
  return type;
}

nb::handle method_type() {
  static constinit Once<const nb::handle> type;  // immortal
  return type.get(make_type);
}

}  // namespace

nb::object make_override(nb::handle base, nb::handle name, OverrideBody body, nb::handle data) {
  nb::object made = allocate(method_type());
  Method* method = method_of(made.ptr());
  method->base = Py_NewRef(base.ptr());
  method->name = Py_NewRef(name.ptr());
  method->data = Py_NewRef(data.ptr());
  method->body = body;
  return made;
}

bool is_override(nb::handle object) { return object.type().is(method_type()); }

}  // namespace nnx_wrappers::py
