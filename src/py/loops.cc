#include "py/loops.h"

#include <algorithm>
#include <vector>

#include "py/containers.h"
#include "py/object.h"

namespace nnx_wrappers::py {

namespace {

// Offsets of instructions: of a jump back, and of where it leads.
struct Loop {
  int begin;
  int end;
};

std::vector<Loop> loops_of(nb::handle code) {
  std::vector<Loop> loops;
  const nb::object instructions = nb::module_::import_("dis").attr("get_instructions")(code);
  for (const nb::object& instruction : elements(instructions)) {
    if (!contains(instruction.attr("opname"), nb::str("JUMP_BACKWARD"))) continue;
    loops.push_back(
        {nb::cast<int>(instruction.attr("argval")), nb::cast<int>(instruction.attr("offset"))});
  }
  return loops;
}

bool is_in_loop(nb::handle code, int offset) {
  return std::ranges::any_of(
      loops_of(code), [&](const Loop& loop) { return loop.begin <= offset && offset < loop.end; });
}

}  // namespace

bool has_loop(nb::handle code) {
  if (!loops_of(code).empty()) return true;
  return std::ranges::any_of(elements(get(code, nb::str("co_consts"))), [](nb::handle constant) {
    return PyCode_Check(constant.ptr()) != 0 && has_loop(constant);
  });
}

bool caller_is_in_loop(const std::function<bool(nb::handle globals)>& is_of_interest) {
  PyFrameObject* innermost = PyEval_GetFrame();  // borrowed
  if (innermost == nullptr) return false;
  nb::object frame = nb::steal(reinterpret_cast<PyObject*>(PyFrame_GetBack(innermost)));
  while (frame.is_valid()) {
    auto* const fields = reinterpret_cast<PyFrameObject*>(frame.ptr());
    const nb::object globals = nb::steal(PyFrame_GetGlobals(fields));
    if (!is_of_interest(globals)) return false;
    const nb::object code = nb::steal(reinterpret_cast<PyObject*>(PyFrame_GetCode(fields)));
    if (is_in_loop(code, PyFrame_GetLasti(fields))) return true;
    frame = nb::steal(reinterpret_cast<PyObject*>(PyFrame_GetBack(fields)));
  }
  return false;
}

}  // namespace nnx_wrappers::py
