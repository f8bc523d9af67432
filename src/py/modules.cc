#include "py/modules.h"

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::py {

std::string text_or_empty(nb::handle text) {
  return text.is_valid() && PyUnicode_Check(text.ptr()) ? utf8(text) : std::string();
}

std::string module_name(nb::handle dict) {
  return text_or_empty(dict_get(dict, names().name_dunder));
}

nb::object imported_module(const std::string& name) {
  return dict_get(PyImport_GetModuleDict(), nb::str(name.c_str()));
}

}  // namespace nnx_wrappers::py
