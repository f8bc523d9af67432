#include "py/versions.h"

#include "py/interpreter_internals.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::py {

std::uint64_t dict_version(nb::handle dict) {
#if PY_VERSION_HEX < 0x030e0000
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  return reinterpret_cast<PyDictObject*>(dict.ptr())->ma_version_tag;
#pragma GCC diagnostic pop
#else
  return static_cast<void>(dict), 0;
#endif
}

nb::object versioned_instance_dict(nb::handle object) {
  nb::object dict = optional_instance_dict(object);
#if PY_VERSION_HEX >= 0x030d0000
  if (!dict.is_valid()) return dict;
  // Adding a key that is no str moves the attributes from the instance into the dict, for good.
  const nb::object key = nb::int_(0);
  if (PyDict_Contains(dict.ptr(), key.ptr()) == 0) {
    if (PyDict_SetItem(dict.ptr(), key.ptr(), Py_None) != 0) throw nb::python_error();
    if (PyDict_DelItem(dict.ptr(), key.ptr()) != 0) throw nb::python_error();
  }
#endif
  return dict;
}

unsigned type_version(nb::handle type) { return as_type(type)->tp_version_tag; }

unsigned assigned_type_version(nb::handle type) {
  _PyType_Lookup(as_type(type), names().init_dunder.ptr());
  return type_version(type);
}

unsigned long thread_switches() {
#if PY_VERSION_HEX >= 0x030c0000
  return PyInterpreterState_Get()->ceval.gil->switch_number;
#else
  return _PyRuntime.ceval.gil.switch_number;
#endif
}

}  // namespace nnx_wrappers::py
