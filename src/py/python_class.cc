#include "py/python_class.h"

namespace nnx_wrappers::py {

namespace nb = nanobind;

nb::object python_class(const char* name, const char* module) {
  try {
    return nb::module_::import_(module).attr(name);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_ImportError) && !error.matches(PyExc_AttributeError)) throw;
    nb::raise_from(error, PyExc_ImportError,
                   "the Python package nnx_wrappers, which has the class %s, cannot be imported; "
                   "install it into the interpreter that runs this program.",
                   name);
    throw nb::python_error();
  }
}

}  // namespace nnx_wrappers::py
