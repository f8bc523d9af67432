#include "nnx_wrappers/errors.h"

namespace nnx_wrappers {

namespace {

// The text as a str. Names of the user may put invalid UTF-8 into it.
nanobind::object message(const Problem& problem) {
  const std::string text = format(problem);
  PyObject* string =
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (string == nullptr) throw nanobind::python_error();
  return nanobind::steal(string);
}

[[noreturn]] void raise(PyObject* type, const Problem& problem) {
  PyErr_SetObject(type, message(problem).ptr());
  throw nanobind::python_error();
}

}  // namespace

InternalError::InternalError(const std::string& what, std::source_location site)
    : std::logic_error("nnx_wrappers bug: " + what + " (" + site.file_name() + ":" +
                       std::to_string(site.line()) + "); please report it") {}

std::string format(const Problem& problem) {
  std::string text =
      problem.where + ": expected " + problem.expected + ", got " + problem.got + ".";
  if (!problem.remedy.empty()) text += " " + problem.remedy;
  return text;
}

void raise_value_error(const Problem& problem) { raise(PyExc_ValueError, problem); }

void raise_type_error(const Problem& problem) { raise(PyExc_TypeError, problem); }

void raise_attribute_error(const Problem& problem) { raise(PyExc_AttributeError, problem); }

void raise_value_error_from(nanobind::python_error& cause, const Problem& problem) {
  const nanobind::object error = nanobind::borrow(PyExc_ValueError)(message(problem));
  nanobind::object reason = nanobind::borrow(cause.value());
  PyException_SetCause(error.ptr(), reason.release().ptr());
  PyErr_SetObject(PyExc_ValueError, error.ptr());
  throw nanobind::python_error();
}

}  // namespace nnx_wrappers
