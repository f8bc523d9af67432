#include "py/object.h"

#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/once.h"

namespace nnx_wrappers::py {

nb::object get(nb::handle object, nb::handle name) {
  PyObject* value = PyObject_GetAttr(object.ptr(), name.ptr());
  if (value == nullptr) throw nb::python_error();
  return nb::steal(value);
}

nb::object get_optional(nb::handle object, nb::handle name) {
  // Most objects say without an error that an attribute is not there.
  PyObject* value = nullptr;
#if PY_VERSION_HEX >= 0x030d0000
  const int found = PyObject_GetOptionalAttr(object.ptr(), name.ptr(), &value);
#else
  const int found = _PyObject_LookupAttr(object.ptr(), name.ptr(), &value);
#endif
  if (found < 0) throw nb::python_error();
  return found == 0 ? nb::object() : nb::steal(value);
}

nb::object class_attribute(nb::handle type, nb::handle name) {
  const nb::object bases = get(type, nb::str("__mro__"));
  if (PyTuple_Check(bases.ptr()) == 0) return {};  // a metaclass may return anything
  for (const nb::object& base : elements(bases)) {
    const nb::object body = get(base, nb::str("__dict__"));
    const int found = PySequence_Contains(body.ptr(), name.ptr());
    if (found < 0) throw nb::python_error();
    if (found != 0) return get_optional(type, name);
  }
  return {};
}

void set(nb::handle object, nb::handle name, nb::handle value) {
  if (PyObject_SetAttr(object.ptr(), name.ptr(), value.ptr()) != 0) throw nb::python_error();
}

nb::object allocate(nb::handle type) {
  PyObject* object = PyType_GenericAlloc(as_type(type), 0);
  if (object == nullptr) throw nb::python_error();
  return nb::steal(object);
}

void set_generic(nb::handle object, nb::handle name, nb::handle value) {
  if (PyObject_GenericSetAttr(object.ptr(), name.ptr(), value.ptr()) != 0) {
    throw nb::python_error();
  }
}

nb::object optional_instance_dict(nb::handle object) {
  PyObject* dict = PyObject_GenericGetDict(object.ptr(), nullptr);
  if (dict == nullptr) {
    if (PyErr_ExceptionMatches(PyExc_AttributeError) == 0) throw nb::python_error();
    PyErr_Clear();
    return {};
  }
  return nb::steal(dict);
}

bool holds_only_attributes(nb::handle type) {
  const PyTypeObject* base = as_type(type);
  while (is_defined_in_python(reinterpret_cast<PyObject*>(const_cast<PyTypeObject*>(base))))
    base = base->tp_base;
  return base == &PyBaseObject_Type && as_type(type)->tp_itemsize == 0;
}

std::vector<nb::object> slots_of(nb::handle type) {
  std::vector<nb::object> slots;
  for (PyTypeObject* part = as_type(type); part != &PyBaseObject_Type; part = part->tp_base) {
    PyObject* names = reinterpret_cast<PyHeapTypeObject*>(part)->ht_slots;
    if (names == nullptr) continue;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
      PyObject* slot = PyDict_GetItemWithError(part->tp_dict, PyTuple_GET_ITEM(names, i));
      if (slot != nullptr && PyObject_TypeCheck(slot, &PyMemberDescr_Type) != 0)
        slots.push_back(nb::borrow(slot));
    }
  }
  return slots;
}

nb::object slot_value(nb::handle slot, nb::handle object) {
  PyObject* held = Py_TYPE(slot.ptr())
                       ->tp_descr_get(slot.ptr(), object.ptr(),
                                      reinterpret_cast<PyObject*>(Py_TYPE(object.ptr())));
  if (held == nullptr) PyErr_Clear();  // it is empty
  return nb::steal(held);
}

void set_slot(nb::handle slot, nb::handle object, nb::handle value) {
  if (Py_TYPE(slot.ptr())->tp_descr_set(slot.ptr(), object.ptr(), value.ptr()) != 0)
    throw nb::python_error();
}

nb::object dict_of_partial(nb::handle partial) {
  PyObject* const* dict = _PyObject_GetDictPtr(partial.ptr());
  return dict == nullptr || *dict == nullptr ? nb::object() : nb::borrow(*dict);
}

nb::dict instance_dict(nb::handle object) {
  nb::object dict = optional_instance_dict(object);
  if (!dict.is_valid()) {
    raise_type_error({"nnx_wrappers", "an object with attributes of its own", describe(object),
                      "Pass an NNX module."});
  }
  return nb::steal<nb::dict>(dict.release());
}

nb::object instance_with(nb::handle type, const nb::dict& attributes) {
  nb::object object = allocate(type);
  // Not PyObject_GenericSetDict, which on 3.13 forgets that attributes may be inline.
  set_generic(object, names().dict_dunder, attributes);
  return object;
}

nb::object call(nb::handle callable, const nb::tuple& args, const nb::dict& kwargs) {
  PyObject* result = PyObject_Call(callable.ptr(), args.ptr(), kwargs.ptr());
  if (result == nullptr) throw nb::python_error();
  return nb::steal(result);
}

nb::tuple prepended(nb::handle first, const nb::tuple& rest) {
  PyObject* all = PyTuple_New(static_cast<Py_ssize_t>(rest.size()) + 1);
  if (all == nullptr) throw nb::python_error();
  PyTuple_SET_ITEM(all, 0, first.inc_ref().ptr());
  for (size_t i = 0; i < rest.size(); ++i) {
    PyTuple_SET_ITEM(all, static_cast<Py_ssize_t>(i) + 1, nb::object(rest[i]).release().ptr());
  }
  return nb::steal<nb::tuple>(all);
}

nb::object sys(const char* name) { return nb::module_::import_("sys").attr(name); }

nb::object id(nb::handle object) {
  PyObject* number = PyLong_FromVoidPtr(object.ptr());
  if (number == nullptr) throw nb::python_error();
  return nb::steal(number);
}

namespace {

nb::object (*parts_of_hash)(nb::handle) = nullptr;

PyObject* hash_method(PyObject* self, PyObject* /*unused*/) {
  try {
    const Py_hash_t hash = PyObject_Hash(parts_of_hash(self).ptr());
    return hash == -1 ? nullptr : PyLong_FromSsize_t(hash);
  } catch (nb::python_error& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyMethodDef hash_definition = {"__hash__", hash_method, METH_NOARGS, nullptr};

}  // namespace

void set_hash(nb::handle type, nb::object (*parts)(nb::handle)) {
  parts_of_hash = parts;
  const nb::object method = nb::steal(PyDescr_NewMethod(as_type(type), &hash_definition));
  if (!method.is_valid()) throw nb::python_error();
  set(type, nb::str("__hash__"), method);
}

bool is_instance(nb::handle object, nb::handle type) {
  const int result = PyObject_IsInstance(object.ptr(), type.ptr());
  if (result < 0) throw nb::python_error();
  return result != 0;
}

bool is_subtype(nb::handle type, nb::handle base) {
  return PyType_IsSubtype(as_type(type), as_type(base)) != 0;
}

bool is_observed(nb::handle object) {
  const bool has_finalizer = PyType_HasFeature(as_type(object.type()), Py_TPFLAGS_HEAPTYPE) != 0 &&
                             as_type(object.type())->tp_finalize != nullptr;
  if (has_finalizer) return true;
  const nb::object count = nb::module_::import_("_weakref").attr("getweakrefcount")(object);
  return nb::cast<size_t>(count) != 0;
}

bool is_defined_in_python(nb::handle type) {
  static constinit Once<const nb::handle> once;
  // A class that a class statement has made, and that is immortal. All such classes have the same
  // function to free them.
  const nb::handle sample =
      once.get([] { return nb::object(nb::module_::import_("abc").attr("ABC")).release(); });
  const auto* object = as_type(type);
  return (object->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 &&
         object->tp_dealloc == as_type(sample)->tp_dealloc;
}

bool truthy(nb::handle object) {
  const int result = PyObject_IsTrue(object.ptr());
  if (result < 0) throw nb::python_error();
  return result != 0;
}

bool is_frozen_dataclass(nb::handle type) {
  const nb::object params = get_optional(type, nb::str("__dataclass_params__"));
  return params.is_valid() && truthy(get(params, nb::str("frozen")));
}

bool is_class(nb::handle object) { return PyType_Check(object.ptr()) != 0; }

bool is_function(nb::handle object) {
  static constinit Once<const nb::handle> once;
  // Immortal, since it is the type of this library's own functions.
  const nb::handle nanobind_function = once.get([] { return nb::cpp_function([] {}).type(); });
  return PyFunction_Check(object.ptr()) != 0 || PyCFunction_Check(object.ptr()) != 0 ||
         object.type().is(nanobind_function);
}

bool equal(nb::handle left, nb::handle right) {
  const int result = PyObject_RichCompareBool(left.ptr(), right.ptr(), Py_EQ);
  if (result < 0) throw nb::python_error();
  return result != 0;
}

std::string utf8(nb::handle object) {
  const nb::str text(object);
  Py_ssize_t size = 0;
  if (const char* utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &size)) {
    return {utf8, static_cast<size_t>(size)};
  }
  PyErr_Clear();
  const nb::object bytes =
      nb::steal(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "backslashreplace"));
  if (!bytes.is_valid()) throw nb::python_error();
  return {PyBytes_AsString(bytes.ptr()), static_cast<size_t>(PyBytes_Size(bytes.ptr()))};
}

std::string shortened(nb::handle string) {
  constexpr Py_ssize_t kMaxLength = 80;  // in characters
  const nb::object cut = nb::steal(PyUnicode_Substring(string.ptr(), 0, kMaxLength));
  if (!cut.is_valid()) throw nb::python_error();
  std::string text = utf8(cut);
  if (PyUnicode_GetLength(string.ptr()) > kMaxLength) text += "...";
  return text;
}

std::string type_name(nb::handle type) {
  const nb::object name = nb::steal(PyType_GetQualName(as_type(type)));
  if (!name.is_valid()) throw nb::python_error();
  std::string text = shortened(name);
  const std::string local = "<locals>.";
  if (const auto at = text.rfind(local); at != std::string::npos) {
    text.erase(0, at + local.size());
  }
  return text;
}

std::string full_name(nb::handle callable) {
  constexpr int kMaxChain = 100;  // a partial may hold itself
  nb::object named = nb::borrow(callable);
  try {
    for (int step = 0; step < kMaxChain; ++step) {
      const nb::object name = get_optional(named, nb::str("__qualname__"));
      if (name.is_valid() && nb::isinstance<nb::str>(name)) {
        const nb::object module = get_optional(named, nb::str("__module__"));
        const bool has_module = module.is_valid() && nb::isinstance<nb::str>(module);
        return (has_module ? shortened(module) + "." : std::string()) + shortened(name);
      }
      const nb::object inner = get_optional(named, nb::str("func"));
      if (!inner.is_valid()) break;
      named = inner;
    }
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;  // a missing name is no reason to fail
  }
  return py::type_name(named.type());
}

std::string describe(nb::handle object) {
  if (!object.is_valid() || object.is_none()) return "None";
  if (nb::isinstance<nb::str>(object)) return "the string '" + shortened(object) + "'";
  if (nb::isinstance<nb::bool_>(object)) {
    return object.ptr() == Py_True ? "True" : "False";
  }
  if (PyLong_CheckExact(object.ptr()) != 0) {
    return "the integer " + shortened(nb::repr(object));
  }
  if (is_class(object)) return "the class " + py::type_name(object);
  return "an instance of " + py::type_name(object.type());
}

}  // namespace nnx_wrappers::py
