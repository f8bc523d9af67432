#include "py/function.h"

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers::py {

std::vector<nb::object> cells_of(nb::handle function) {
  const nb::object closure = get(function, names().closure_dunder);
  return closure.is_none() ? std::vector<nb::object>() : elements(closure);
}

bool is_free_builtin(nb::handle object) {
  if (object.type().ptr() != reinterpret_cast<PyObject*>(&PyCFunction_Type)) return false;
  const nb::object owner = get(object, names().self_dunder);
  return owner.is_none() || PyModule_Check(owner.ptr()) || is_class(owner);
}

nb::object cell_contents(nb::handle cell) {
  PyObject* contents = PyCell_Get(cell.ptr());
  if (contents == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  return nb::steal(contents);
}

nb::object empty_cell() {
  const nb::object cell = nb::steal(PyCell_New(nullptr));
  if (!cell.is_valid()) throw nb::python_error();
  return cell;
}

void fill_cell(nb::handle cell, nb::handle contents) {
  if (PyCell_Set(cell.ptr(), contents.ptr()) != 0) throw nb::python_error();
}

namespace {

// The numbers of the operations in bytecode.
struct Operations {
  Operations() : numbers(nb::module_::import_("opcode").attr("opmap")) {}

  unsigned of(const char* name) const { return nb::cast<unsigned>(numbers[name]); }

  nb::object numbers;
  unsigned extended_argument = of("EXTENDED_ARG");
  unsigned store = of("STORE_DEREF");
  unsigned remove = of("DELETE_DEREF");
};

const Operations& operations() {
  static constinit Once<const Operations> known;
  return known.get([] { return Operations(); });
}

bool assigns_to(nb::handle code, nb::handle names_of_cells) {
  const Operations& known = operations();
  const auto* fields = reinterpret_cast<PyCodeObject*>(code.ptr());
  const auto first_free = static_cast<unsigned>(fields->co_nlocalsplus - fields->co_nfreevars);
  const std::vector<nb::object> free = elements(code.attr("co_freevars"));
  const nb::bytes units(
      nb::object(code.attr("co_code")));  // of an operation and 8 bits of argument
  unsigned argument = 0;
  for (size_t i = 0; i + 1 < units.size(); i += 2) {
    const auto* unit = reinterpret_cast<const unsigned char*>(units.c_str()) + i;
    argument = (argument << 8U) | unit[1];
    if (unit[0] == known.extended_argument) continue;
    const bool assigns = unit[0] == known.store || unit[0] == known.remove;
    if (assigns && argument >= first_free &&
        contains(names_of_cells, free.at(argument - first_free)))
      return true;
    argument = 0;
  }
  for (const nb::object& constant : elements(code.attr("co_consts"))) {
    if (PyCode_Check(constant.ptr()) && assigns_to(constant, names_of_cells)) return true;
  }
  return false;
}

}  // namespace

bool assigns_to_closure(nb::handle function) {
  const nb::object code = get(function, names().code_dunder);
  const nb::object cells = code.attr("co_freevars");
  return nb::len(cells) != 0 && assigns_to(code, cells);
}

nb::object with_cells(nb::handle function, const std::vector<nb::object>& cells) {
  nb::list closure;
  for (const nb::object& cell : cells) closure.append(cell);
  const nb::object made =
      function.type()(get(function, names().code_dunder), get(function, nb::str("__globals__")),
                      get(function, nb::str("__name__")), get(function, names().defaults_dunder),
                      nb::tuple(closure));
  for (const char* attribute :
       {"__kwdefaults__", "__annotations__", "__qualname__", "__module__", "__doc__"}) {
    const nb::str name(attribute);
    const nb::object value = get(function, name);
    set(made, name, PyDict_CheckExact(value.ptr()) != 0 ? nb::object(value.attr("copy")()) : value);
  }
  get(made, names().dict_dunder).attr("update")(get(function, names().dict_dunder));
  return made;
}

}  // namespace nnx_wrappers::py
