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

// qwix: what it does to a constructor is in the key, by its interceptors.
constexpr std::array<std::string_view, 7> kLibraries = {
    "flax", "jax", "jaxlib", "numpy", "ml_dtypes", "nnx_wrappers", "qwix"};

constexpr std::array<std::string_view, 10> kBeside = {
    "logging", "absl",     "warnings",  "importlib", "_frozen_importlib",
    "IPython", "coverage", "ipykernel", "_pytest",   "traceback"};

// Of the standard library: their objects never change, or only beside the program.
constexpr std::array<std::string_view, 18> kOpaque = {
    "logging",   "_thread", "_sre",     "re",        "pathlib",   "datetime",
    "_datetime", "decimal", "_decimal", "fractions", "typing",    "inspect",
    "abc",       "_abc",    "uuid",     "ipaddress", "importlib", "_frozen_importlib"};

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

std::string_view text_of(nb::handle name) {
  if (!name.is_valid() || PyUnicode_Check(name.ptr()) == 0) return {};
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(name.ptr(), &size);
  if (text == nullptr) {
    PyErr_Clear();
    return {};
  }
  return {text, static_cast<size_t>(size)};
}

std::string_view root_of(std::string_view module) { return module.substr(0, module.find('.')); }

std::string_view module_of_class(nb::handle type) {
  const auto* object = reinterpret_cast<PyTypeObject*>(type.ptr());
  if ((object->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0) {
    const std::string_view name = object->tp_name;
    const auto dot = name.rfind('.');
    return dot == std::string_view::npos ? "builtins" : name.substr(0, dot);
  }
  static constinit py::Once<const nb::handle> once;
  const nb::handle name =
      once.get([] { return nb::handle(PyUnicode_InternFromString("__module__")); });
  return text_of(_PyType_Lookup(const_cast<PyTypeObject*>(object), name.ptr()));
}

Origin origin_of_module(std::string_view name) {
  const std::string_view root = root_of(name);
  if (root.empty()) return Origin::kUser;
  if (is_among(kLibraries, root)) return Origin::kLibrary;
  if (is_among(kBeside, root)) return Origin::kBeside;
  return is_standard(root) ? Origin::kStandard : Origin::kUser;
}

Origin origin_of_globals(nb::handle globals) {
  const nb::handle name = PyDict_GetItemWithError(globals.ptr(), py::names().name_dunder.ptr());
  if (!name.is_valid()) return Origin::kUser;
  // What numpy does when a constructor calls it is seen: it may read a file.
  return root_of(text_of(name)) == "numpy" ? Origin::kStandard : origin_of_module(text_of(name));
}

Origin origin_of_class(nb::handle type) { return origin_of_module(module_of_class(type)); }

namespace {

bool has_next(nb::handle type) {
  return reinterpret_cast<PyTypeObject*>(type.ptr())->tp_iternext != nullptr;
}

}  // namespace

bool is_opaque_class(nb::handle type) {
  const Facade& f = facade();
  if (py::is_subtype(type, f.numpy_array) || py::is_subtype(type, f.partial)) return false;
  const std::string_view root = root_of(module_of_class(type));
  if (root == "numpy") return !py::is_of_python(type) && !has_next(type);
  // Functions of C by other makers.
  if (root == "nanobind" || py::type_name(type) == "cython_function_or_method") return true;
  return root == "jax" || root == "jaxlib" || root == "ml_dtypes" || is_among(kOpaque, root);
}

bool is_random_generator(nb::handle type) {
  return module_of_class(type).starts_with("numpy.random");
}

bool is_about_a_tracer(nb::handle code, nb::handle globals) {
  const std::string_view module =
      text_of(nb::borrow(PyDict_GetItemWithError(globals.ptr(), py::names().name_dunder.ptr())));
  if (module != "jax._src.errors") return false;
  return py::get(code, nb::str("co_name")).equal(py::names().init_dunder);
}

bool wraps_functions(nb::handle type) {
  const Facade& f = facade();
  return type.is(f.jit_function) || type.is(f.custom_jvp) || type.is(f.custom_vjp) ||
         type.is(f.ufunc);
}

bool is_source_of_randomness(std::string_view module, nb::handle name) {
  constexpr std::array<std::string_view, 10> kMakers = {
      "default_rng", "Generator", "RandomState", "SeedSequence", "BitGenerator",
      "PCG64",       "PCG64DXSM", "MT19937",     "Philox",       "SFC64"};
  return root_of(module) == "numpy" && module.starts_with("numpy.random") &&
         is_among(kMakers, text_of(name));
}

nb::object numpy_random_state() {
  PyObject* module = PyDict_GetItemString(PyImport_GetModuleDict(), "numpy.random");  // borrowed
  if (module == nullptr) return nb::str("");
  const nb::object all = nb::handle(module).attr("get_state")(nb::arg("legacy") = false);
  const nb::object state = all["state"];
  return nb::make_tuple(state["pos"], state["key"].attr("tobytes")(), all["has_gauss"]);
}

}  // namespace nnx_wrappers::upstream
