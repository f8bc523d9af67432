#include "upstream/initializers.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "py/containers.h"
#include "py/function.h"
#include "py/modules.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/origin.h"

namespace nnx_wrappers::upstream {

namespace {

constexpr std::array<std::string_view, 6> kInitializers = {"zeros",
                                                           "ones",
                                                           "uniform.<locals>.init",
                                                           "normal.<locals>.init",
                                                           "truncated_normal.<locals>.init",
                                                           "variance_scaling.<locals>.init"};

// A number, a text, a type, a dtype, None, or a tuple of such.
bool is_plain(nb::handle value) {
  PyObject* ptr = value.ptr();
  if (PyTuple_CheckExact(ptr) != 0)
    return std::ranges::all_of(py::borrowed_elements(value), is_plain);
  return ptr == Py_None || PyBool_Check(ptr) || PyLong_CheckExact(ptr) != 0 ||
         PyFloat_CheckExact(ptr) != 0 || PyUnicode_CheckExact(ptr) != 0 || py::is_class(value) ||
         py::is_subtype(value.type(), facade().numpy_dtype);
}

}  // namespace

bool works_for_all_lengths(nb::handle init_fn) {
  if (PyFunction_Check(init_fn.ptr()) == 0) return false;
  const nb::handle globals = PyFunction_GetGlobals(init_fn.ptr());
  if (py::module_name(globals) != "jax._src.nn.initializers") return false;
  // The name of the code, since the one of the function may be given anew.
  const nb::object code = nb::borrow(PyFunction_GetCode(init_fn.ptr()));
  const nb::object name = py::get(code, nb::str("co_qualname"));
  if (std::ranges::find(kInitializers, text_view(name)) == kInitializers.end()) return false;
  return std::ranges::all_of(py::cells_of(init_fn), [](const nb::object& cell) {
    const nb::object contents = py::cell_contents(cell);
    return contents.is_valid() && is_plain(contents);
  });
}

}  // namespace nnx_wrappers::upstream
