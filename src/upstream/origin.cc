#include "upstream/origin.h"

#include <algorithm>
#include <array>

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/facade.h"

namespace nnx_wrappers::upstream {

namespace {

// Qwix is among them since its interceptors, which change what a constructor does, are in the key
// of a plan.
constexpr std::array<std::string_view, 7> kLibraries = {
    "flax", "jax", "jaxlib", "numpy", "ml_dtypes", "nnx_wrappers", "qwix"};

constexpr std::array<std::string_view, 10> kTooling = {
    "logging", "absl",     "warnings",  "importlib", "_frozen_importlib",
    "IPython", "coverage", "ipykernel", "_pytest",   "traceback"};

// Modules of the standard library whose objects never change, or only by what tooling does.
constexpr std::array<std::string_view, 18> kOpaque = {
    "logging",   "_thread", "_sre",     "re",        "pathlib",   "datetime",
    "_datetime", "decimal", "_decimal", "fractions", "typing",    "inspect",
    "abc",       "_abc",    "uuid",     "ipaddress", "importlib", "_frozen_importlib"};

// Those among them whose equal objects may differ in what their text leaves out.
constexpr std::array<std::string_view, 3> kToldByIdentity = {"typing", "inspect", "uuid"};

template <typename Names>
bool is_among(const Names& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

bool is_standard(std::string_view root) {
  static constinit py::Once<const nb::handle> once;  // immortal
  const nb::handle names = once.get([] { return py::sys("stdlib_module_names").release(); });
  const nb::str name(root.data(), root.size());
  return PySet_Contains(names.ptr(), name.ptr()) == 1;
}

}  // namespace

std::string_view text_view(nb::handle name) {
  if (!name.is_valid() || PyUnicode_Check(name.ptr()) == 0) return {};
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(name.ptr(), &size);
  if (text == nullptr) {
    PyErr_Clear();
    return {};
  }
  return {text, static_cast<size_t>(size)};
}

std::string_view top_level_package(std::string_view module) {
  return module.substr(0, module.find('.'));
}

std::string_view module_of_class(nb::handle type) {
  const auto* object = py::as_type(type);
  if ((object->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0) {
    const std::string_view name = object->tp_name;
    const auto dot = name.rfind('.');
    return dot == std::string_view::npos ? "builtins" : name.substr(0, dot);
  }
  static constinit py::Once<const nb::handle> once;
  const nb::handle name =
      once.get([] { return nb::handle(PyUnicode_InternFromString("__module__")); });
  return text_view(_PyType_Lookup(const_cast<PyTypeObject*>(object), name.ptr()));
}

Origin origin_of_module(std::string_view name) {
  const std::string_view root = top_level_package(name);
  if (root.empty()) return Origin::kUser;
  if (is_among(kLibraries, root)) return Origin::kLibrary;
  if (is_among(kTooling, root)) return Origin::kTooling;
  return is_standard(root) ? Origin::kStandard : Origin::kUser;
}

Origin origin_of_globals(nb::handle globals) {
  const nb::handle name = PyDict_GetItemWithError(globals.ptr(), py::names().name_dunder.ptr());
  if (!name.is_valid()) return Origin::kUser;
  // Functions of numpy are watched like those of the standard library: they may read a file.
  return top_level_package(text_view(name)) == "numpy" ? Origin::kStandard
                                                       : origin_of_module(text_view(name));
}

Origin origin_of_class(nb::handle type) { return origin_of_module(module_of_class(type)); }

namespace {

bool has_next(nb::handle type) { return py::as_type(type)->tp_iternext != nullptr; }

}  // namespace

bool is_opaque_class(nb::handle type) {
  const Facade& f = facade();
  if (py::is_subtype(type, f.numpy_array) || py::is_subtype(type, f.partial)) return false;
  const std::string_view root = top_level_package(module_of_class(type));
  if (root == "numpy") return !py::is_defined_in_python(type) && !has_next(type);
  // Functions that nanobind and Cython have made.
  if (root == "nanobind" || py::type_name(type) == "cython_function_or_method") return true;
  return root == "jax" || root == "jaxlib" || root == "ml_dtypes" || is_among(kOpaque, root);
}

bool is_told_by_text(nb::handle type) {
  return !is_among(kToldByIdentity, top_level_package(module_of_class(type)));
}

bool is_random_generator(nb::handle type) {
  return module_of_class(type).starts_with("numpy.random");
}

bool is_tracer_error_constructor(nb::handle code, nb::handle globals) {
  const std::string_view module =
      text_view(nb::borrow(PyDict_GetItemWithError(globals.ptr(), py::names().name_dunder.ptr())));
  if (module != "jax._src.errors") return false;
  return py::get(code, nb::str("co_name")).equal(py::names().init_dunder);
}

bool wraps_functions(nb::handle type) {
  const Facade& f = facade();
  return type.is(f.jit_function) || type.is(f.custom_jvp) || type.is(f.custom_vjp) ||
         type.is(f.ufunc);
}

std::vector<nb::object> functions_inside(nb::handle wrapper) {
  std::vector<nb::object> inside;
  for (const char* name : {"__wrapped__", "fun", "jvp", "fwd", "bwd", "_func"}) {
    nb::object function = py::get_optional(wrapper, nb::str(name));
    if (function.is_valid()) inside.push_back(std::move(function));
  }
  return inside;
}

bool makes_random_generator(std::string_view module, nb::handle name) {
  constexpr std::array<std::string_view, 10> kMakers = {
      "default_rng", "Generator", "RandomState", "SeedSequence", "BitGenerator",
      "PCG64",       "PCG64DXSM", "MT19937",     "Philox",       "SFC64"};
  return top_level_package(module) == "numpy" && module.starts_with("numpy.random") &&
         is_among(kMakers, text_view(name));
}

nb::object numpy_random_state() {
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), "numpy.random");  // borrowed
  if (module == nullptr) return nb::str("");
  const nb::object all = nb::handle(module).attr("get_state")(nb::arg("legacy") = false);
  const nb::object state = all["state"];
  return nb::make_tuple(state["pos"], state["key"].attr("tobytes")(), all["has_gauss"]);
}

}  // namespace nnx_wrappers::upstream
