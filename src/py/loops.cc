#include "py/loops.h"

#include "py/containers.h"
#include "py/object.h"

namespace nnx_wrappers::py {

namespace {

// True if the instruction at this offset is between the target of a jump back and the jump.
bool is_in_loop(nb::handle code, int offset) {
  const nb::object instructions = nb::module_::import_("dis").attr("get_instructions")(code);
  for (const nb::object& instruction : elements(instructions)) {
    if (!contains(instruction.attr("opname"), nb::str("JUMP_BACKWARD"))) continue;
    const auto jump = nb::cast<int>(instruction.attr("offset"));
    const auto target = nb::cast<int>(instruction.attr("argval"));
    if (target <= offset && offset < jump) return true;
  }
  return false;
}

}  // namespace

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
