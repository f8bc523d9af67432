#include "upstream/axes.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/origin.h"

namespace nnx_wrappers::upstream {

namespace {

// The part of the context that has the axes; an invalid object if none has.
nb::object axes_of(nb::handle trace_context) {
  if (PyTuple_CheckExact(trace_context.ptr()) == 0) return {};
  for (PyObject* part : py::borrowed_elements(trace_context)) {
    const nb::object owned = nb::borrow(part);
    if (py::type_name(owned.type()) == "AxisEnv") return owned;
  }
  return {};
}

bool is_empty(nb::handle axes, const char* name) {
  const nb::object names = py::get_optional(axes, nb::str(name));
  return names.is_valid() && PyAnySet_Check(names.ptr()) != 0 && PySet_Size(names.ptr()) == 0;
}

}  // namespace

bool reads_named_axes(nb::handle code, nb::handle globals) {
  constexpr std::array<std::string_view, 5> kReaders = {"axis_size", "axis_exists", "axis_names",
                                                        "nonempty_axis_env_DO_NOT_USE",
                                                        "unsafe_get_axis_names_DO_NOT_USE"};
  const nb::object module = py::dict_get(globals, py::names().name_dunder);
  if (!module.is_valid() || text_view(module) != "jax._src.core") return false;
  const nb::object name = py::get(code, nb::str("co_name"));
  return std::ranges::find(kReaders, text_view(name)) != kReaders.end();
}

nb::object named_axes() {
  nb::object axes = axes_of(facade().trace_context());
  return axes.is_valid() ? axes : nb::none();
}

nb::object without_named_axes(nb::handle trace_context) {
  const nb::object axes = axes_of(trace_context);
  const bool is_plain = axes.is_valid() && is_empty(axes, "spmd_axis_names") &&
                        is_empty(axes, "explicit_mesh_axis_names");
  if (!is_plain) return nb::borrow(trace_context);
  nb::list others;
  for (const nb::object& part : py::elements(trace_context)) {
    if (!part.is(axes)) others.append(part);
  }
  return nb::tuple(others);
}

}  // namespace nnx_wrappers::upstream
