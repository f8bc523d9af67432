#include "upstream/trace_context.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/facade.h"
#include "upstream/origin.h"
#include "upstream/private_names.h"

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

// True if these axes matter for nothing but code that asks for them.
bool are_plain(nb::handle axes) {
  return is_empty(axes, "spmd_axis_names") && is_empty(axes, "explicit_mesh_axis_names");
}

// The place of the entered meshes in a trace context, which is a tuple; nothing if it does not have
// them. To find it, others are set for a moment, in this thread.
std::optional<size_t> look_for_meshes() {
  const nb::handle config = facade().entered_meshes;
  const nb::object swap = py::get_optional(config, nb::str("swap_local"));
  const nb::object set = py::get_optional(config, nb::str("set_local"));
  if (!swap.is_valid() || !set.is_valid()) return std::nullopt;
  const nb::tuple marker = nb::make_tuple(nb::none());
  const nb::object before = swap(marker);
  nb::object context;
  try {
    context = facade().trace_context();
  } catch (nb::python_error&) {
    set(before);
    throw;
  }
  set(before);
  if (PyTuple_CheckExact(context.ptr()) == 0) return std::nullopt;
  const std::vector<nb::object> parts = py::elements(context);
  const auto found =
      std::ranges::find_if(parts, [&](const nb::object& part) { return part.is(marker); });
  if (found == parts.end()) return std::nullopt;
  return static_cast<size_t>(found - parts.begin());
}

std::optional<size_t> position_of_meshes() {
  static constinit py::Once<const std::optional<size_t>> position;
  return position.get(look_for_meshes);
}

bool has_abstract_mesh() {
  const nb::handle get = facade().get_abstract_mesh;
  return get.is_valid() && !py::truthy(py::get(get(), nb::str("empty")));
}

std::string_view module_of(nb::handle globals) {
  const nb::object module = py::dict_get(globals, py::names().name_dunder);
  return module.is_valid() ? text_view(module) : std::string_view();
}

}  // namespace

bool reads_named_axes(nb::handle code, nb::handle globals) {
  constexpr std::array<std::string_view, 5> kReaders = {"axis_size", "axis_exists", "axis_names",
                                                        "nonempty_axis_env_DO_NOT_USE",
                                                        "unsafe_get_axis_names_DO_NOT_USE"};
  if (module_of(globals) != "jax._src.core") return false;
  const nb::object name = py::get(code, nb::str("co_name"));
  return std::ranges::find(kReaders, text_view(name)) != kReaders.end();
}

nb::object named_axes() {
  nb::object axes = axes_of(facade().trace_context());
  return axes.is_valid() ? axes : nb::none();
}

nb::object entered_meshes() {
  const nb::handle config = facade().entered_meshes;
  return config.is_valid() ? py::get(config, nb::str("value")) : nb::none();
}

bool reads_entered_meshes(nb::handle code, nb::handle globals) {
  constexpr std::array<std::string_view, 2> kPlaces = {"thread_resources", "mesh_context_manager"};
  const auto* parts = reinterpret_cast<PyCodeObject*>(code.ptr());
  const bool names_them = std::ranges::any_of(
      py::borrowed_elements(parts->co_names),
      [&](PyObject* name) { return std::ranges::find(kPlaces, text_view(name)) != kPlaces.end(); });
  return names_them && module_of(globals) != "jax._src.pjit";
}

bool runs_under_entered_meshes(nb::handle function) {
  if (!function.type().is(facade().jit_function)) return false;
  const PrivateNames& n = private_names();
  const nb::object info = py::get_optional(function, n.jit_info);
  if (!info.is_valid()) return false;
  const nb::object does = py::get_optional(info, n.use_resource_env);
  return does.is_valid() && py::truthy(does);
}

nb::object concrete_mesh() {
  const nb::handle get = facade().concrete_mesh;
  return get.is_valid() ? get() : nb::none();
}

nb::object without_axes_and_meshes(nb::handle trace_context) {
  nb::object axes = axes_of(trace_context);
  if (axes.is_valid() && !are_plain(axes)) axes = {};
  const std::optional<size_t> meshes =
      has_abstract_mesh() ? position_of_meshes() : std::optional<size_t>();
  if (!axes.is_valid() && !meshes) return nb::borrow(trace_context);
  nb::list others;
  size_t position = 0;
  for (const nb::object& part : py::elements(trace_context)) {
    if (!part.is(axes) && position != meshes) others.append(part);
    ++position;
  }
  return nb::tuple(others);
}

}  // namespace nnx_wrappers::upstream
