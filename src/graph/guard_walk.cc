// GuardRecorder: what an object holds that code could read.
#include <Python.h>
#include <structmember.h>  // needs the one above

#include <algorithm>
#include <array>

#include "graph/guard_kinds.h"
#include "graph/guard_recorder.h"
#include "py/names.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/array.h"
#include "upstream/c_functions.h"
#include "upstream/facade.h"
#include "upstream/origin.h"

namespace nnx_wrappers::graph {

namespace {

bool is_user_class(nb::handle type) {
  return upstream::origin_of_class(type) == upstream::Origin::kUser;
}

PyTypeObject* as_type(nb::handle type) { return reinterpret_cast<PyTypeObject*>(type.ptr()); }

std::string_view type_text(const PyTypeObject* type) { return type->tp_name; }

// The class of C whose layout an object has: that of the classes of Python, taken off.
PyTypeObject* base_of_c(nb::handle object) {
  PyTypeObject* type = as_type(object.type());
  while (type->tp_base != nullptr && py::is_of_python(reinterpret_cast<PyObject*>(type))) {
    type = type->tp_base;
  }
  return type;
}

constexpr int kObjectOrNothing = 16;  // T_OBJECT_EX of CPython's structmember.h: a slot
constexpr int kRelative = 8;

// The `__slots__` of the class and its bases that are of Python.
std::vector<MembersGuard::Member> slots_of(nb::handle object) {
  std::vector<MembersGuard::Member> found;
  const PyTypeObject* base_of_c = nnx_wrappers::graph::base_of_c(object);
  const nb::handle bases = as_type(object.type())->tp_mro;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(bases.ptr()); ++i) {
    const auto* base = as_type(PyTuple_GET_ITEM(bases.ptr(), i));
    if (base == base_of_c || base->tp_dict == nullptr) continue;
    Py_ssize_t position = 0;
    PyObject* name = nullptr;
    PyObject* value = nullptr;
    while (PyDict_Next(base->tp_dict, &position, &name, &value) != 0) {
      if (!Py_IS_TYPE(value, &PyMemberDescr_Type)) continue;
      const PyMemberDef* member = reinterpret_cast<PyMemberDescrObject*>(value)->d_member;
      if (member->type != kObjectOrNothing || (member->flags & kRelative) != 0) continue;
      found.push_back({member->name, member->offset});
    }
  }
  return found;
}

nb::object bytes_of_array(nb::handle array) {
  const nb::handle type = reinterpret_cast<PyObject*>(base_of_c(array));
  return type.attr("tobytes")(array);
}

// Modules of classes of C of the standard library whose state no guard could compare.
constexpr std::array<std::string_view, 18> kWithHiddenState = {
    "_io",     "mmap",     "_ctypes", "_socket",      "_queue",  "select",
    "_ssl",    "sqlite3",  "xml",     "_elementtree", "pyexpat", "_asyncio",
    "_random", "_hashlib", "_blake2", "contextvars",  "zlib",    "_contextvars"};

// Modules of classes of C that hold other objects, and nothing besides that could change.
constexpr std::array<std::string_view, 9> kOnlyHolding = {
    "builtins", "types",        "functools",  "collections", "operator",
    "typing",   "_collections", "_functools", "_operator"};

}  // namespace

void GuardRecorder::visit(nb::handle object, const std::string& path) {
  if (!object.is_valid() || is_atom(object.ptr()) || is_over()) return;
  if (!seen_.emplace(object.ptr(), nb::borrow(object)).second) return;
  waiting_.push_back({nb::borrow(object), path});
}

void GuardRecorder::visit_waiting() {
  while (!waiting_.empty() && !is_over()) {
    const Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    look_at(next.object, next.path);
  }
}

void GuardRecorder::look_at(nb::handle object, const std::string& path) {
  PyObject* ptr = object.ptr();
  if (upstream::is_tracer(object)) return refuse("a tracer at " + path);
  if (PyFunction_Check(ptr)) return look_at_function(object, path);
  if (PyType_Check(ptr)) return look_at_class(object, path);
  if (PyModule_Check(ptr)) return look_at_module(object, path);
  if (look_at_known(object, path)) return;
  if (upstream::is_random_generator(object.type()))
    return refuse("it uses numpy.random, at " + path);
  if (upstream::is_opaque_class(object.type())) return look_at_wrapped(object, path);
  look_at_instance(object, path);
}

// ---- functions, classes, modules -----------------------------------------------------------

void GuardRecorder::look_at_function(nb::handle function, const std::string& path) {
  const auto* made = reinterpret_cast<PyFunctionObject*>(function.ptr());
  if (upstream::origin_of_globals(made->func_globals) == upstream::Origin::kUser) {
    guard<FunctionGuard>(path, function);
    visit(made->func_dict, path);
    if (reads_functions_ || ran_.contains(made->func_code)) return look_at_parts(function, path);
    functions_[made->func_code].push_back({nb::borrow(function), path});
    return;
  }
  // A function that a library has made, such as an initializer, is what it closes over.
  if (made->func_closure == nullptr) return;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(made->func_closure); ++i) {
    visit(PyCell_GET(PyTuple_GET_ITEM(made->func_closure, i)), path);
  }
}

void GuardRecorder::look_at_parts(nb::handle function, const std::string& path) {
  const auto* made = reinterpret_cast<PyFunctionObject*>(function.ptr());
  visit(made->func_defaults, path);
  visit(made->func_kwdefaults, path);
  if (made->func_closure == nullptr) return;
  const nb::object names = py::get(nb::handle(made->func_code), nb::str("co_freevars"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(made->func_closure); ++i) {
    const nb::handle cell = PyTuple_GET_ITEM(made->func_closure, i);
    const std::string name = py::text_of(PyTuple_GET_ITEM(names.ptr(), i));
    if (!seen_.emplace(cell.ptr(), nb::borrow(cell)).second) continue;
    guard<CellGuard>(std::string(name).append(" of ").append(path), cell);
    visit(PyCell_GET(cell.ptr()), name);
  }
}

void GuardRecorder::look_at_class(nb::handle type, const std::string& path) {
  if (!is_user_class(type)) return;
  const unsigned version = py::assigned_type_version(type);
  if (version == 0) return refuse("class " + path + " was changed too often to be compared");
  guard<ClassGuard>(path, type, version);
  const nb::handle bases = as_type(type)->tp_mro;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(bases.ptr()); ++i) {
    const nb::handle base = PyTuple_GET_ITEM(bases.ptr(), i);
    if (!is_user_class(base)) continue;
    const nb::handle dict = as_type(base)->tp_dict;
    seen_.emplace(base.ptr(), nb::borrow(base));
    std::unique_ptr<Namespace>& space = namespaces_[dict.ptr()];
    if (space != nullptr) continue;
    space = std::make_unique<Namespace>();
    space->dict = nb::borrow(dict);
    space->path = i == 0 ? path : py::type_name(base);
    space->looks_further = true;
    named_spaces_.push_back(space.get());
    const nb::handle match_names = PyDict_GetItemString(dict.ptr(), "__match_args__");
    if (match_names.is_valid()) add_names_in(match_names);
    look_at_functions_of(*space);
    Namespace& made = *space;  // the map may grow
    for (PyObject* name : std::vector<PyObject*>(names_.begin(), names_.end())) note(made, name);
    flush_names();
  }
  visit(type.type(), py::type_name(type.type()));
}

// Methods run by other names than code has: __init__, operators, properties.
void GuardRecorder::look_at_functions_of(const Namespace& space) {
  Py_ssize_t position = 0;
  PyObject* name = nullptr;
  PyObject* value = nullptr;
  while (PyDict_Next(space.dict.ptr(), &position, &name, &value) != 0) {
    const PyTypeObject* type = Py_TYPE(value);
    const bool is_method = PyFunction_Check(value) || type == &PyProperty_Type ||
                           type == &PyClassMethod_Type || type == &PyStaticMethod_Type ||
                           upstream::module_of_class(nb::handle(value).type()) == "functools";
    // Descriptors, and objects in the place of methods.
    const bool can_run = type->tp_call != nullptr || type->tp_descr_get != nullptr;
    const bool is_of_user = !PyType_Check(value) && can_run &&
                            py::is_of_python(nb::handle(value).type()) &&
                            is_user_class(nb::handle(value).type());
    const std::string text = py::utf8(name);
    const bool runs_unnamed =  // as others do only where code names them
        is_of_user && text.starts_with("__") && text.ends_with("__") && text != "__signature__";
    if (is_method || runs_unnamed) visit(value, space.path + attribute_text(name));
  }
}

void GuardRecorder::look_at_module(nb::handle module, const std::string& path) {
  const nb::handle dict = PyModule_GetDict(module.ptr());
  if (path == "sys.modules") return;
  Namespace& space = namespace_of(dict, module, path);
  if (std::exchange(space.is_module, true)) return;
  if (space.looks_further) space.guard->fix_size();
  named_spaces_.push_back(&space);
  note(space, nb::str("__getattr__"));
  for (PyObject* name : std::vector<PyObject*>(names_.begin(), names_.end())) note(space, name);
}

// ---- objects -------------------------------------------------------------------------------

// Objects of C whose state is read in a way of its own. False for all others.
bool GuardRecorder::look_at_known(nb::handle object, const std::string& path) {
  PyObject* ptr = object.ptr();
  const PyTypeObject* base = base_of_c(object);
  if (PyCFunction_Check(ptr)) {
    PyObject* owner = PyCFunction_GetSelf(ptr);
    refuse(upstream::reason_not_repeatable(object, owner, true));
    if (owner != nullptr && !PyModule_Check(owner)) visit(owner, path);
    return true;
  }
  if (PyContextVar_CheckExact(ptr)) {
    guard<ContextVarGuard>(path, object);
    visit(ContextVarGuard::value(ptr), path);
    return true;
  }
  if (PyCell_Check(ptr)) {
    guard<CellGuard>(path, object);
    visit(PyCell_GET(ptr), path);
    return true;
  }
  if (PyWeakref_CheckRef(ptr) || PyWeakref_CheckProxy(ptr)) {
    guard<ReferenceGuard>(path, object);
    visit(ReferenceGuard::target(ptr), path);
  } else if (type_text(base) == "_thread._local") {
    const PyTypeObject* type = as_type(object.type());
    if (type->tp_init != base->tp_init || type->tp_getattro != base->tp_getattro) {
      refuse(path + ", a threading.local with a constructor or __getattribute__ of its own");
      return true;
    }
    guard<ThreadLocalGuard>(path, object);
    look_at_values(ThreadLocalGuard::dict_of(object), path, true);
    if (is_user_class(object.type())) visit(object.type(), py::type_name(object.type()));
    return true;
  } else if (py::is_subtype(object.type(), upstream::facade().numpy_array)) {
    look_at_numpy(object, path);
  } else if (PyByteArray_Check(ptr)) {
    guard<BytesGuard>(path, object, bytes_of_bytearray);
  } else if (type_text(base) == "array.array") {
    guard<BytesGuard>(path, object, bytes_of_array);
  } else if (type_text(base) == "functools._lru_cache_wrapper") {
    look_at_memo(object, path);
    return true;
  } else {
    return PyCode_Check(ptr) || Py_IS_TYPE(ptr, &PyMethodDescr_Type) ||
           Py_IS_TYPE(ptr, &PyWrapperDescr_Type) || Py_IS_TYPE(ptr, &PyGetSetDescr_Type) ||
           Py_IS_TYPE(ptr, &PyMemberDescr_Type) || Py_IS_TYPE(ptr, &PyRange_Type);
  }
  if (base != as_type(object.type())) look_at_own(object, path);
  return true;
}

// What functools.lru_cache keeps: results, or elements of a list that hold them.
void GuardRecorder::look_at_memo(nb::handle wrapper, const std::string& path) {
  const nb::object attributes = py::present_instance_dict(wrapper);
  if (attributes.is_valid()) {
    guard<InstanceGuard>(path, wrapper, attributes);
    look_at_values(attributes, path, true);
  }
  memos_.push_back(nb::borrow(wrapper));
  for (const nb::handle part : referents_of(wrapper)) {
    const bool is_table = PyDict_CheckExact(part.ptr()) != 0 && !part.is(attributes);
    if (is_table) {
      seen_.emplace(part.ptr(), nb::borrow(part));
      guard<MemoGuard>(path, part);
    } else if (!PyType_Check(part.ptr())) {
      visit(part, path);  // a key or a result, too
    }
  }
}

void GuardRecorder::look_at_numpy(nb::handle array, const std::string& path) {
  constexpr size_t kMostBytes = 65'536;
  const nb::handle type = upstream::facade().numpy_array;
  const auto bytes = nb::cast<size_t>(type.attr("nbytes").attr("__get__")(array));
  const nb::object dtype = type.attr("dtype").attr("__get__")(array);
  if (nb::cast<bool>(dtype.attr("hasobject"))) return refuse(path + ", an array of objects");
  if (bytes > kMostBytes) return refuse(path + ", an array of numpy of more than 64 KiB");
  guard<BytesGuard>(path, array, bytes_of_numpy);
}

// What JAX has wrapped is the user's.
void GuardRecorder::look_at_wrapped(nb::handle object, const std::string& path) {
  if (!upstream::wraps_functions(object.type())) return;
  const nb::object dict = py::present_instance_dict(object);
  if (!dict.is_valid()) return;
  guard<InstanceGuard>(path, object, dict);
  look_at_values(dict, path, true);
}

void GuardRecorder::look_at_instance(nb::handle object, const std::string& path) {
  PyObject* ptr = object.ptr();
  if (!check_base(object, path)) return;
  if (PyDict_Check(ptr)) {
    guard<DictGuard>(path, object);
    look_at_values(object, path, false);
    if (PyODict_Check(ptr)) guard<ElementsGuard>(path, object);
  } else if (PyTuple_Check(ptr)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(ptr); ++i) {
      PyObject* element = PyTuple_GET_ITEM(ptr, i);
      if (!is_atom(element)) visit(element, path + "[" + std::to_string(i) + "]");
    }
  } else if (PyList_Check(ptr) || PyAnySet_Check(ptr) ||
             type_text(base_of_c(object)) == "collections.deque") {
    if (!PyFrozenSet_Check(ptr)) guard<ElementsGuard>(path, object);
    size_t index = 0;
    ElementsGuard::for_each(ptr, [&](PyObject* element) {
      if (!is_atom(element)) visit(element, path + "[" + std::to_string(index) + "]");
      ++index;
      return true;
    });
  }
  const PyTypeObject* base = base_of_c(object);
  const bool holds_more = base != &PyBaseObject_Type && base != &PyDict_Type &&
                          base != &PyList_Type && base != &PySet_Type && base != &PyTuple_Type &&
                          base != &PyFrozenSet_Type && base->tp_traverse != nullptr;
  if (type_text(base) == "operator.attrgetter") {
    for (const nb::handle part : referents_of(object)) add_names_in(part);
    flush_names();
  }
  if (holds_more) {
    py::counted_instance_dict(object);  // which it may only make now
    guard<ReferentsGuard>(path, object, base->tp_traverse);
    for (const nb::handle part : referents_of(object, base->tp_traverse)) visit(part, path);
  }
  look_at_own(object, path);
}

// What classes of Python add to an object.
void GuardRecorder::look_at_own(nb::handle object, const std::string& path) {
  look_at_slots(object, path);
  look_at_attributes(object, path);
  if (is_user_class(object.type())) visit(object.type(), py::type_name(object.type()));
}

// Whether all of the state of an object can be seen.
bool GuardRecorder::check_base(nb::handle object, const std::string& path) {
  PyTypeObject* base = base_of_c(object);
  const std::string what = path + " (" + py::type_name(reinterpret_cast<PyObject*>(base)) + ")";
  const bool is_iterator = base->tp_iternext != nullptr &&
                           (base != as_type(object.type()) || PyIter_Check(object.ptr()) != 0);
  if (is_iterator) {
    refuse("next() may advance the iterator " + what);
    return false;
  }
  const upstream::Origin origin = upstream::origin_of_class(reinterpret_cast<PyObject*>(base));
  if (origin == upstream::Origin::kUser) {
    refuse(what + " is of a class of C, whose state cannot be compared");
    return false;
  }
  std::string_view module = type_text(base);
  const bool has_no_module = module.find('.') == std::string_view::npos;
  module = has_no_module ? "builtins" : module.substr(0, module.find('.'));
  const bool is_hidden = std::ranges::find(kWithHiddenState, module) != kWithHiddenState.end() ||
                         type_text(base) == "memoryview" || type_text(base) == "coroutine" ||
                         type_text(base) == "async_generator" ||
                         // Nothing to be seen inside, and not known to be constant.
                         (origin != upstream::Origin::kStandard && base->tp_traverse == nullptr) ||
                         (base != &PyBaseObject_Type && origin == upstream::Origin::kStandard &&
                          std::ranges::find(kOnlyHolding, module) == kOnlyHolding.end());
  if (is_hidden) refuse(what + " has a state that cannot be compared");
  return !is_hidden;
}

void GuardRecorder::look_at_slots(nb::handle object, const std::string& path) {
  std::vector<MembersGuard::Member> slots = slots_of(object);
  if (slots.empty()) return;
  for (const MembersGuard::Member& slot : slots) {
    visit(MembersGuard::value(object, slot), path + "." + slot.name);
  }
  guard<MembersGuard>(path, object, std::move(slots));
}

void GuardRecorder::look_at_attributes(nb::handle object, const std::string& path) {
  const nb::object dict = py::counted_instance_dict(object);
  if (!dict.is_valid()) return;
  guard<InstanceGuard>(path, object, dict);
  look_at_values(dict, path, true);
}

void GuardRecorder::look_at_values(nb::handle dict, const std::string& path, bool as_attributes) {
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  while (PyDict_Next(dict.ptr(), &position, &key, &value) != 0) {
    if (!is_atom(key)) visit(key, path);
    if (is_atom(value) || seen_.contains(value)) continue;
    visit(value, path + (as_attributes ? attribute_text(key) : element_text(key)));
  }
}

}  // namespace nnx_wrappers::graph
