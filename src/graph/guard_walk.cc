// GuardRecorder: the objects that functions, classes and modules lead to.
#include <utility>

#include "graph/guard_kinds.h"
#include "graph/guard_recorder.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/array.h"
#include "upstream/origin.h"

namespace nnx_wrappers::graph {

void GuardRecorder::enqueue(nb::handle object, const std::string& path) {
  if (!object.is_valid() || is_atom(object.ptr()) || is_refused()) return;
  if (!seen_.emplace(object.ptr(), nb::borrow(object)).second) return;
  queue_.push_back({nb::borrow(object), path});
}

void GuardRecorder::inspect_queue() {
  while (!queue_.empty() && !is_refused()) {
    const Pending next = std::move(queue_.front());
    queue_.pop_front();
    inspect(next.object, next.path);
  }
}

void GuardRecorder::inspect(nb::handle object, const std::string& path) {
  PyObject* ptr = object.ptr();
  if (upstream::is_tracer(object)) return refuse("a tracer at " + path);
  if (PyFunction_Check(ptr)) return inspect_function(object, path);
  if (PyType_Check(ptr)) return inspect_class(object, path);
  if (PyModule_Check(ptr)) return inspect_module(object, path);
  if (inspect_builtin(object, path)) return;
  if (upstream::is_random_generator(object.type()))
    return refuse("it uses numpy.random, at " + path);
  if (upstream::is_opaque_class(object.type())) return inspect_wrapped_functions(object, path);
  inspect_instance(object, path);
}
void GuardRecorder::inspect_function(nb::handle function, const std::string& path) {
  const auto* fields = reinterpret_cast<PyFunctionObject*>(function.ptr());
  if (upstream::origin_of_globals(fields->func_globals) == upstream::Origin::kUser) {
    guard<FunctionGuard>(path, function);
    enqueue(fields->func_dict, path);
    if (inspects_all_functions_ || codes_run_.contains(fields->func_code)) {
      return inspect_function_parts(function, path);
    }
    functions_not_run_[fields->func_code].push_back({nb::borrow(function), path});
    return;
  }
  // Of a library's function, such as an initializer, only the closure can differ.
  if (fields->func_closure == nullptr) return;
  for (PyObject* cell : py::borrowed_elements(fields->func_closure)) {
    PyObject* held = PyCell_GET(cell);
    // What jax.checkpoint returns keeps traces by the axes.
    reads_axes_ = reads_axes_ || (held != nullptr && upstream::is_user_function(held));
    enqueue(held, path);
  }
}

void GuardRecorder::inspect_function_parts(nb::handle function, const std::string& path) {
  const auto* fields = reinterpret_cast<PyFunctionObject*>(function.ptr());
  enqueue(fields->func_defaults, path);
  enqueue(fields->func_kwdefaults, path);
  if (fields->func_closure == nullptr) return;
  const nb::object names = py::get(nb::handle(fields->func_code), nb::str("co_freevars"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fields->func_closure); ++i) {
    const nb::handle cell = PyTuple_GET_ITEM(fields->func_closure, i);
    const std::string name = py::shortened(PyTuple_GET_ITEM(names.ptr(), i));
    if (!seen_.emplace(cell.ptr(), nb::borrow(cell)).second) continue;
    guard<CellGuard>(std::string(name).append(" of ").append(path), cell);
    enqueue(PyCell_GET(cell.ptr()), name);
  }
}

void GuardRecorder::inspect_class(nb::handle type, const std::string& path) {
  if (!upstream::is_user_class(type)) return;
  const unsigned version = py::assigned_type_version(type);
  if (version == 0) return refuse("class " + path + " was changed too often to be compared");
  guard<ClassGuard>(path, type, version);
  const nb::handle bases = py::as_type(type)->tp_mro;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(bases.ptr()); ++i) {
    const nb::handle base = PyTuple_GET_ITEM(bases.ptr(), i);
    if (!upstream::is_user_class(base)) continue;
    const nb::handle dict = py::as_type(base)->tp_dict;
    seen_.emplace(base.ptr(), nb::borrow(base));
    std::unique_ptr<Namespace>& space = namespaces_[dict.ptr()];
    if (space != nullptr) continue;
    space = std::make_unique<Namespace>();
    space->dict = nb::borrow(dict);
    space->path = i == 0 ? path : py::type_name(base);
    space->follows_values = true;
    open(*space);
    const nb::handle match_names = PyDict_GetItemString(dict.ptr(), "__match_args__");
    if (match_names.is_valid()) add_names_in(match_names);
    inspect_methods(*space);
    apply_new_names();
  }
  enqueue(type.type(), py::type_name(type.type()));
}

// Inspects the methods of a class, since Python calls `__init__`, operators and properties without
// a name in code.
void GuardRecorder::inspect_methods(const Namespace& space) {
  for (const auto& [name, value] : py::borrowed_items(space.dict)) {
    const PyTypeObject* type = Py_TYPE(value);
    const bool is_method = PyFunction_Check(value) || type == &PyProperty_Type ||
                           type == &PyClassMethod_Type || type == &PyStaticMethod_Type ||
                           upstream::module_of_class(nb::handle(value).type()) == "functools";
    // A callable object or a descriptor of the user's can stand in the place of a method. Python
    // calls it without a name in code only if its own name is special.
    const bool can_run = type->tp_call != nullptr || type->tp_descr_get != nullptr;
    const bool is_user_object = !PyType_Check(value) && can_run &&
                                py::is_defined_in_python(nb::handle(value).type()) &&
                                upstream::is_user_class(nb::handle(value).type());
    const std::string text = py::utf8(name);
    const bool is_special =
        text.starts_with("__") && text.ends_with("__") && text != "__signature__";
    if (is_method || (is_user_object && is_special)) {
      enqueue(value, space.path + attribute_text(name));
    }
  }
}

void GuardRecorder::inspect_module(nb::handle module, const std::string& path) {
  const nb::handle dict = PyModule_GetDict(module.ptr());
  if (path == "sys.modules") return;
  Namespace& space = namespace_of(dict, module, path);
  if (std::exchange(space.is_module, true)) return;
  if (space.follows_values) space.guard->fix_size();
  note_name(space, nb::str("__getattr__"));
  open(space);
}

}  // namespace nnx_wrappers::graph
