// Errors of the library.
//
// A user's mistake is a Python ValueError, TypeError, AttributeError or the Flax
// error that users already catch; it travels as nanobind::python_error and says
// in one sentence where it happened, what was expected, what came, what to do.
// A broken invariant of this library is an InternalError.
#pragma once

#include <nanobind/nanobind.h>

#include <source_location>
#include <stdexcept>
#include <string>

namespace nnx_wrappers {

// A bug in nnx_wrappers, never a user's mistake. The text names the site.
class InternalError : public std::logic_error {
 public:
  explicit InternalError(const std::string& what,
                         std::source_location site = std::source_location::current());
};

// The parts of one sentence to a user. Every part but `remedy` is required.
struct Problem {
  std::string where;     // the call and the path: "ToLinen.apply, params/dense/kernel"
  std::string expected;  // "an nnx.Variable"
  std::string got;       // "the string 'x'"
  std::string remedy;    // "Pass nnx.Param(...)."; a full sentence or empty
};

// "{where}: expected {expected}, got {got}. {remedy}"
std::string format(const Problem& problem);

[[noreturn]] void raise_value_error(const Problem& problem);
[[noreturn]] void raise_type_error(const Problem& problem);
[[noreturn]] void raise_attribute_error(const Problem& problem);

// As raise_value_error, with the pending Python error `cause` as its __cause__.
[[noreturn]] void raise_value_error_from(nanobind::python_error& cause, const Problem& problem);

}  // namespace nnx_wrappers
