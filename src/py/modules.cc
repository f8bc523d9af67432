#include "py/modules.h"

#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::py {

nb::object look_up(nb::handle dict, nb::handle name) {
  PyObject* value = PyDict_GetItemWithError(dict.ptr(), name.ptr());
  if (value == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  return nb::borrow(value);
}

std::string text_or_empty(nb::handle text) {
  return text.is_valid() && PyUnicode_Check(text.ptr()) ? utf8(text) : std::string();
}

std::string module_name(nb::handle dict) {
  return text_or_empty(look_up(dict, names().name_dunder));
}

nb::object imported_module(const std::string& name) {
  return look_up(PyImport_GetModuleDict(), nb::str(name.c_str()));
}

}  // namespace nnx_wrappers::py
