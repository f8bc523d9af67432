#include "py/argument_watch.h"

#include <array>
#include <set>
#include <string>

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::py {

namespace {

// Names whose use gives a function all of its variables at once.
constexpr std::array<const char*, 6> kLookAtAll = {"locals", "vars", "dir",
                                                   "eval",   "exec", "_getframe"};

constexpr Py_ssize_t kNoLine = -1;

bool mentions(nb::handle argument, nb::handle name) {
  if (PyTuple_Check(argument.ptr())) return contains(argument, name);
  return nb::isinstance<nb::str>(argument) && argument.equal(name);
}

// The lines of the code that use its variable `name`.
std::set<Py_ssize_t> lines_with(nb::handle code, nb::handle name) {
  std::set<Py_ssize_t> lines;
  for (const nb::object& instruction :
       elements(nb::module_::import_("dis").attr("get_instructions")(code))) {
    if (!mentions(instruction.attr("argval"), name)) continue;
    const nb::object line = instruction.attr("positions").attr("lineno");
    lines.insert(line.is_none() ? kNoLine : nb::cast<Py_ssize_t>(line));
  }
  return lines;
}

}  // namespace

ArgumentWatch::ArgumentWatch(nb::handle function, size_t position)
    : was_read_(std::make_shared<bool>(true)) {
  if (!PyFunction_Check(function.ptr()) || !nb::object(sys("gettrace")()).is_none()) return;
  const nb::object code = get(function, names().code_dunder);
  if (nb::cast<size_t>(code.attr("co_argcount")) <= position) return;
  const nb::object name = code.attr("co_varnames")[position];
  if (contains(code.attr("co_cellvars"), name)) return;
  for (const char* all : kLookAtAll) {
    if (contains(code.attr("co_names"), nb::str(all))) return;
  }
  const std::set<Py_ssize_t> lines = lines_with(code, name);
  if (lines.contains(kNoLine)) return;
  *was_read_ = false;
  if (lines.empty()) return;
  const auto local = [was_read = was_read_, lines](nb::handle frame, nb::handle, nb::handle) {
    const nb::object line = frame.attr("f_lineno");
    if (line.is_none() || lines.contains(nb::cast<Py_ssize_t>(line))) *was_read = true;
    return nb::none();
  };
  const nb::object on_line =
      nb::cpp_function(local, nb::arg("frame"), nb::arg("event"), nb::arg("value").none());
  const auto global = [code, on_line](nb::handle frame, nb::handle, nb::handle) -> nb::object {
    if (!nb::object(frame.attr("f_code")).is(code)) return nb::none();
    return nb::borrow(on_line);
  };
  const nb::object trace =
      nb::cpp_function(global, nb::arg("frame"), nb::arg("event"), nb::arg("value").none());
  sys("settrace")(trace);
  trace_ = trace;
}

ArgumentWatch::~ArgumentWatch() {
  if (!trace_.is_valid()) return;
  try {
    // What the function itself has set stays.
    if (nb::object(sys("gettrace")()).is(trace_)) sys("settrace")(nb::none());
  } catch (...) {  // NOLINT(bugprone-empty-catch)
    // An audit hook refused: nothing that a destructor could do.
  }
}

}  // namespace nnx_wrappers::py
