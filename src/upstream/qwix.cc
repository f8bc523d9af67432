#include "upstream/qwix.h"

#include <string>

#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/linen.h"
#include "upstream/look_up.h"
#include "upstream/names.h"

namespace nnx_wrappers::upstream {

namespace {

constexpr const char* kManager = "qwix._src.interception:interception_manager";
constexpr const char* kCounts = "qwix._src.aux_data:clear";

// `sys.modules[name]`, or an invalid object.
nb::object imported(nb::handle name) { return py::dict_get(PyImport_GetModuleDict(), name); }

// Names that every call looks up. Immortal.
struct ModuleNames {
  nb::handle package = nb::str("qwix").release();
  nb::handle interception = nb::str("qwix._src.interception").release();
};

const ModuleNames& module_names() {
  static constinit py::Once<const ModuleNames> names;
  return names.get([] { return ModuleNames(); });
}

[[noreturn]] void raise_other_version(const std::string& what) {
  const std::string text = "nnx_wrappers needs " + what + ", which Qwix " + version_of("qwix") +
                           " does not have; install qwix==0.1.8 to quantize NNX modules inside "
                           "Linen modules.";
  PyErr_SetString(PyExc_ImportError, text.c_str());
  throw nb::python_error();
}

// True if a Linen module runs in this thread whose class Qwix has made for quantization.
bool runs_quantized_model() {
  const nb::str mark("_unquantized_type");
  for (const nb::object& module :
       py::elements(py::get(facade().linen_context, names().module_stack))) {
    if (py::get_optional(module.type(), mark).is_valid()) return true;
  }
  return false;
}

// Two attributes of Qwix's interception manager. They are read without its lock: the GIL is held
// between the two, and only this thread changes the entries of this thread.
struct Manager {
  nb::object threads;  // dict: (thread, id) -> enabled
  nb::object interceptors;
};

// Qwix's interception manager. Its attributes are invalid if Qwix has other private names and does
// not run a model.
Manager manager() {
  Manager found;
  const nb::object module = imported(module_names().interception);
  if (module.is_valid()) {
    const nb::object object = py::get_optional(module, nb::str("interception_manager"));
    if (object.is_valid()) {
      found.threads = py::get_optional(object, nb::str("_intercepted_threads"));
      found.interceptors = py::get_optional(object, nb::str("_interceptors"));
    }
  }
  const bool is_known = found.threads.is_valid() && PyDict_Check(found.threads.ptr()) != 0 &&
                        found.interceptors.is_valid();
  if (is_known) return found;
  if (runs_quantized_model()) raise_other_version(kManager);
  return {};
}

}  // namespace

nb::object qwix_interceptors() {
  if (!imported(module_names().package).is_valid() || !has(Feature::kQwix)) return {};
  const Manager qwix = manager();
  if (!qwix.threads.is_valid() || PyDict_Size(qwix.threads.ptr()) == 0) return {};
  const nb::int_ thread(PyThread_get_thread_ident());
  nb::list found;
  for (const nb::object& interceptor : py::elements(qwix.interceptors)) {
    const nb::object id = py::get_optional(interceptor, nb::str("id"));
    if (!id.is_valid()) raise_other_version(std::string(kManager) + "._interceptors[...].id");
    const nb::object enabled = py::dict_get(qwix.threads, nb::make_tuple(thread, id));
    if (enabled.is_valid()) found.append(nb::make_tuple(id, enabled, interceptor));
  }
  return nb::len(found) == 0 ? nb::object() : nb::object(nb::tuple(found));
}

nb::object interceptor_ids(nb::handle interceptors) {
  nb::list ids;
  for (const nb::object& entry : py::elements(interceptors)) {
    ids.append(nb::make_tuple(entry[0], entry[1]));
  }
  return nb::tuple(ids);
}

void forget_op_counts(nb::handle nnx_module) {
  const nb::object module = imported(nb::str("qwix._src.aux_data"));
  const nb::object clear =
      module.is_valid() ? py::get_optional(module, nb::str("clear")) : nb::object();
  if (!clear.is_valid()) raise_other_version(kCounts);
  clear(nnx_module);
}

PathStep::PathStep(nb::handle name) {
  const Names& n = names();
  const nb::object module = innermost_linen_module();
  if (module.is_none()) return;
  const nb::object scope = py::get_optional(module, n.scope);
  if (!scope.is_valid() || scope.is_none()) return;
  nb::object before = py::get(scope, n.path);
  py::set(scope, n.path, before + nb::make_tuple(name));
  path_before_ = std::move(before);
  scope_ = scope;
}

void PathStep::leave() {
  if (!scope_.is_valid()) return;
  py::set(scope_, names().path, path_before_);
  scope_ = nb::object();
}

PathStep::~PathStep() {
  if (!scope_.is_valid()) return;
  if (PyObject_SetAttr(scope_.ptr(), names().path.ptr(), path_before_.ptr()) != 0) {
    PyErr_Clear();
  }
}

}  // namespace nnx_wrappers::upstream
