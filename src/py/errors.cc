#include "nnx_wrappers/errors.h"

namespace nnx_wrappers {

namespace {

[[noreturn]] void raise(PyObject* type, const Problem& problem) {
  PyErr_SetString(type, format(problem).c_str());
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
  nanobind::raise_from(cause, PyExc_ValueError, "%s", format(problem).c_str());
  throw nanobind::python_error();
}

}  // namespace nnx_wrappers
