#include "graph/local_class.h"

#include <string>
#include <vector>

#include "py/containers.h"
#include "py/function.h"
#include "py/names.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/leaked.h"

namespace nnx_wrappers::graph {

namespace {

// The Python functions of a class attribute: a method, a property, or a wrapped function.
std::vector<nb::object> functions_of(const nb::object& attribute) {
  std::vector<nb::object> functions;
  if (PyFunction_Check(attribute.ptr())) functions.push_back(attribute);
  for (const char* name : {"__func__", "fget", "fset", "fdel", "__wrapped__"}) {
    const nb::object inner = py::get_optional(attribute, nb::str(name));
    if (inner.is_valid() && PyFunction_Check(inner.ptr())) functions.push_back(inner);
  }
  return functions;
}

bool is_call_local_value(const nb::object& value) {
  if (upstream::is_tracer(value)) return true;
  const nb::object trace_state = upstream::trace_state_of(value);
  return trace_state.is_valid() && upstream::is_current_trace(trace_state);
}

bool holds_call_local_value(nb::handle type) {
  for (const auto& item : py::mapping_items(py::get(type, py::names().dict_dunder))) {
    if (is_call_local_value(item.second)) return true;
    for (const nb::object& function : functions_of(item.second)) {
      for (const nb::object& cell : py::cells_of(function)) {
        const nb::object contents = py::cell_contents(cell);
        if (contents.is_valid() && is_call_local_value(contents)) return true;
      }
    }
  }
  return false;
}

}  // namespace

bool is_call_local(nb::handle type) {
  const nb::object bases = py::get(type, nb::str("__mro__"));
  if (PyTuple_Check(bases.ptr()) == 0) return true;
  for (const nb::object& base : py::elements(bases)) {
    if (!py::is_class(base)) return true;
    const std::string name = py::utf8(py::get(base, nb::str("__qualname__")));
    if (name.find(kLocals) == std::string::npos) continue;
    if (name.find("__init__" + std::string(kLocals)) != std::string::npos) return true;
    if (holds_call_local_value(base)) return true;
  }
  return false;
}

}  // namespace nnx_wrappers::graph
