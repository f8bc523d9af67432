// GuardRecorder: the contents of an object that code could read.
#include <Python.h>
#include <structmember.h>  // after Python.h

#include <algorithm>
#include <array>

#include "graph/guard_kinds.h"
#include "graph/guard_recorder.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/c_functions.h"
#include "upstream/facade.h"
#include "upstream/origin.h"
#include "upstream/trace_context.h"

namespace nnx_wrappers::graph {

namespace {

std::string_view full_type_name(const PyTypeObject* type) { return type->tp_name; }

// The C class whose layout the object has: the first base of its class that is defined in C.
PyTypeObject* c_base(nb::handle object) {
  PyTypeObject* type = py::as_type(object.type());
  while (type->tp_base != nullptr && py::is_defined_in_python(reinterpret_cast<PyObject*>(type))) {
    type = type->tp_base;
  }
  return type;
}

constexpr int kObjectSlot = 16;     // T_OBJECT_EX of structmember.h: the type of `__slots__`
constexpr int kRelativeOffset = 8;  // Py_RELATIVE_OFFSET

// The `__slots__` of the object's class and of its bases, up to the C class.
std::vector<MembersGuard::Member> slots_of(nb::handle object) {
  std::vector<MembersGuard::Member> found;
  const PyTypeObject* last = c_base(object);
  const nb::handle bases = py::as_type(object.type())->tp_mro;
  for (PyObject* class_object : py::borrowed_elements(bases)) {
    const auto* base = py::as_type(class_object);
    if (base == last || base->tp_dict == nullptr) continue;
    for (const auto& [name, value] : py::borrowed_items(base->tp_dict)) {
      if (!Py_IS_TYPE(value, &PyMemberDescr_Type)) continue;
      const PyMemberDef* member = reinterpret_cast<PyMemberDescrObject*>(value)->d_member;
      if (member->type != kObjectSlot || (member->flags & kRelativeOffset) != 0) continue;
      found.push_back({member->name, member->offset});
    }
  }
  return found;
}

bool wraps_user_function(nb::handle wrapper) {
  return std::ranges::any_of(upstream::functions_inside(wrapper), [](const nb::object& function) {
    return PyFunction_Check(function.ptr()) == 0 || upstream::is_user_function(function);
  });
}

bool never_changes(PyObject* object) {
  return PyCode_Check(object) || Py_IS_TYPE(object, &PyMethodDescr_Type) ||
         Py_IS_TYPE(object, &PyWrapperDescr_Type) || Py_IS_TYPE(object, &PyGetSetDescr_Type) ||
         Py_IS_TYPE(object, &PyMemberDescr_Type) || Py_IS_TYPE(object, &PyRange_Type);
}

// The bytes of an array.array.
nb::object bytes_of_array(nb::handle array) {
  const nb::handle type = reinterpret_cast<PyObject*>(c_base(array));
  return type.attr("tobytes")(array);
}

// Modules of the standard library with C classes whose state no guard can compare.
constexpr std::array<std::string_view, 18> kModulesWithHiddenState = {
    "_io",     "mmap",     "_ctypes", "_socket",      "_queue",  "select",
    "_ssl",    "sqlite3",  "xml",     "_elementtree", "pyexpat", "_asyncio",
    "_random", "_hashlib", "_blake2", "contextvars",  "zlib",    "_contextvars"};

// Modules with C classes whose state is the objects that they hold.
constexpr std::array<std::string_view, 9> kModulesOfContainers = {
    "builtins", "types",        "functools",  "collections", "operator",
    "typing",   "_collections", "_functools", "_operator"};

}  // namespace

// Inspects an object of a C class that has a kind of guard of its own, or that never changes.
// Returns false for all other objects.
bool GuardRecorder::inspect_builtin(nb::handle object, const std::string& path) {
  PyObject* ptr = object.ptr();
  const PyTypeObject* base = c_base(object);
  if (PyCFunction_Check(ptr)) {
    PyObject* owner = PyCFunction_GetSelf(ptr);
    refuse(upstream::reason_not_repeatable(object, owner, true));
    if (owner != nullptr && !PyModule_Check(owner)) enqueue(owner, path);
    return true;
  }
  if (PyContextVar_CheckExact(ptr)) {
    guard<ContextVarGuard>(path, object);
    enqueue(ContextVarGuard::value(ptr), path);
    return true;
  }
  if (PyCell_Check(ptr)) {
    guard<CellGuard>(path, object);
    enqueue(PyCell_GET(ptr), path);
    return true;
  }
  if (full_type_name(base) == "_thread._local") {
    inspect_thread_local(object, path);
    return true;
  }
  if (full_type_name(base) == "functools._lru_cache_wrapper") {
    inspect_lru_cache(object, path);
    return true;
  }
  if (PyWeakref_CheckRef(ptr) || PyWeakref_CheckProxy(ptr)) {
    guard<WeakReferenceGuard>(path, object);
    enqueue(WeakReferenceGuard::target(ptr), path);
  } else if (py::is_subtype(object.type(), upstream::facade().numpy_array)) {
    inspect_numpy_array(object, path);
  } else if (PyByteArray_Check(ptr)) {
    guard<ReadGuard>(path, object, bytes_of_bytearray);
  } else if (full_type_name(base) == "array.array") {
    guard<ReadGuard>(path, object, bytes_of_array);
  } else {
    return never_changes(ptr);
  }
  if (base != py::as_type(object.type())) inspect_python_state(object, path);
  return true;
}

void GuardRecorder::inspect_thread_local(nb::handle object, const std::string& path) {
  const PyTypeObject* base = c_base(object);
  const PyTypeObject* type = py::as_type(object.type());
  if (type->tp_init != base->tp_init || type->tp_getattro != base->tp_getattro) {
    return refuse(path + ", a threading.local with a constructor or __getattribute__ of its own");
  }
  guard<ThreadLocalGuard>(path, object);
  inspect_values(ThreadLocalGuard::dict_of(object), path, true);
  if (upstream::is_user_class(object.type())) enqueue(object.type(), py::type_name(object.type()));
}

// Inspects the results that a functools.lru_cache has kept: values of a dict, or elements of a
// list.
void GuardRecorder::inspect_lru_cache(nb::handle wrapper, const std::string& path) {
  const nb::object attributes = py::optional_instance_dict(wrapper);
  if (attributes.is_valid()) {
    guard<InstanceGuard>(path, wrapper, attributes);
    inspect_values(attributes, path, true);
  }
  LruCache cache{nb::borrow(wrapper), {}, 0, false};
  for (const nb::handle part : referents_of(wrapper)) {
    const bool is_table = PyDict_CheckExact(part.ptr()) != 0 && !part.is(attributes);
    if (is_table) {
      seen_.emplace(part.ptr(), nb::borrow(part));
      guard<LruCacheGuard>(path, part);
      cache.table = nb::borrow(part);
      cache.size = nb::len(part);
      for (const auto& [key, value] : py::dict_items(part)) {
        cache.is_bounded = full_type_name(Py_TYPE(value.ptr())) == "functools._lru_list_elem";
        if (cache.is_bounded) break;  // so are all, and each is a referent of the wrapper
        enqueue(value, path);
      }
    } else if (!PyType_Check(part.ptr())) {
      enqueue(part, path);
    }
  }
  lru_caches_.push_back(std::move(cache));
}

void GuardRecorder::inspect_cached_results() {
  for (size_t i = 0; i < lru_caches_.size(); ++i) {
    if (!lru_caches_[i].has_grown()) continue;
    const LruCache grown = std::move(lru_caches_[i]);
    lru_caches_.erase(lru_caches_.begin() + static_cast<std::ptrdiff_t>(i--));
    inspect_lru_cache(grown.wrapper, "a remembered result");
  }
  inspect_queue();
}

void GuardRecorder::inspect_numpy_array(nb::handle array, const std::string& path) {
  constexpr size_t kMaxBytes = 65'536;
  const nb::handle type = upstream::facade().numpy_array;
  const auto bytes = nb::cast<size_t>(type.attr("nbytes").attr("__get__")(array));
  const nb::object dtype = type.attr("dtype").attr("__get__")(array);
  if (nb::cast<bool>(dtype.attr("hasobject"))) return refuse(path + ", an array of objects");
  if (bytes > kMaxBytes) return refuse(path + ", an array of numpy of more than 64 KiB");
  guard<ReadGuard>(path, array, bytes_of_numpy);
}

// Inspects the functions that an object of JAX, such as that of jax.jit, wraps.
void GuardRecorder::inspect_wrapped_functions(nb::handle object, const std::string& path) {
  if (!upstream::wraps_functions(object.type())) return;
  reads_meshes_ = reads_meshes_ || upstream::runs_under_entered_meshes(object);
  reads_axes_ = reads_axes_ || wraps_user_function(object);  // JAX keeps its traces by the axes
  const nb::object dict = py::optional_instance_dict(object);
  if (!dict.is_valid()) return;
  guard<InstanceGuard>(path, object, dict);
  inspect_values(dict, path, true);
}

void GuardRecorder::inspect_instance(nb::handle object, const std::string& path) {
  if (!require_comparable_base(object, path)) return;
  inspect_elements(object, path);
  const PyTypeObject* base = c_base(object);
  const bool holds_more = base != &PyBaseObject_Type && base != &PyDict_Type &&
                          base != &PyList_Type && base != &PySet_Type && base != &PyTuple_Type &&
                          base != &PyFrozenSet_Type && base->tp_traverse != nullptr;
  if (full_type_name(base) == "operator.attrgetter") {
    for (const nb::handle part : referents_of(object)) add_names_in(part);
    apply_new_names();
  }
  const bool is_bare_partial =
      object.type().is(upstream::facade().partial) && !py::dict_of_partial(object).is_valid();
  if (holds_more) {
    // Made before its referents are compared.
    if (!is_bare_partial) py::versioned_instance_dict(object);
    guard<ReferentsGuard>(path, object, base->tp_traverse);
    for (const nb::handle part : referents_of(object, base->tp_traverse)) enqueue(part, path);
  }
  if (!is_bare_partial) inspect_python_state(object, path);
}

// Guards and inspects the elements of a container. Tuples and frozensets need no guard.
void GuardRecorder::inspect_elements(nb::handle object, const std::string& path) {
  PyObject* ptr = object.ptr();
  if (PyDict_Check(ptr)) {
    guard<DictGuard>(path, object);
    inspect_values(object, path, false);
    if (PyODict_Check(ptr)) guard<ElementsGuard>(path, object);
  } else if (PyTuple_Check(ptr)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(ptr); ++i) {
      PyObject* element = PyTuple_GET_ITEM(ptr, i);
      if (!is_atom(element)) enqueue(element, path + "[" + std::to_string(i) + "]");
    }
  } else if (PyList_Check(ptr) || PyAnySet_Check(ptr) ||
             full_type_name(c_base(object)) == "collections.deque") {
    if (!PyFrozenSet_Check(ptr)) guard<ElementsGuard>(path, object);
    size_t index = 0;
    ElementsGuard::for_each(ptr, [&](PyObject* element) {
      if (!is_atom(element)) enqueue(element, path + "[" + std::to_string(index) + "]");
      ++index;
      return true;
    });
  }
}

// Inspects the state that a class in Python adds to an object: slots, attributes and its class.
void GuardRecorder::inspect_python_state(nb::handle object, const std::string& path) {
  inspect_slots(object, path);
  inspect_attributes(object, path);
  if (upstream::is_user_class(object.type())) enqueue(object.type(), py::type_name(object.type()));
}

// Refuses an object whose C class has a state that no guard can compare. Returns false then.
bool GuardRecorder::require_comparable_base(nb::handle object, const std::string& path) {
  PyTypeObject* base = c_base(object);
  const std::string what = path + " (" + py::type_name(reinterpret_cast<PyObject*>(base)) + ")";
  const bool is_iterator = base->tp_iternext != nullptr &&
                           (base != py::as_type(object.type()) || PyIter_Check(object.ptr()) != 0);
  if (is_iterator) {
    refuse("next() may advance the iterator " + what);
    return false;
  }
  const upstream::Origin origin = upstream::origin_of_class(reinterpret_cast<PyObject*>(base));
  if (origin == upstream::Origin::kUser) {
    refuse(what + " is of a class of C, whose state cannot be compared");
    return false;
  }
  std::string_view module = full_type_name(base);
  const bool has_no_module = module.find('.') == std::string_view::npos;
  module = has_no_module ? "builtins" : module.substr(0, module.find('.'));
  const bool is_hidden =
      std::ranges::find(kModulesWithHiddenState, module) != kModulesWithHiddenState.end() ||
      full_type_name(base) == "memoryview" || full_type_name(base) == "coroutine" ||
      full_type_name(base) == "async_generator" ||
      // It shows no objects inside, and is not known to be constant.
      (origin != upstream::Origin::kStandard && base->tp_traverse == nullptr) ||
      (base != &PyBaseObject_Type && origin == upstream::Origin::kStandard &&
       std::ranges::find(kModulesOfContainers, module) == kModulesOfContainers.end());
  if (is_hidden) refuse(what + " has a state that cannot be compared");
  return !is_hidden;
}

void GuardRecorder::inspect_slots(nb::handle object, const std::string& path) {
  std::vector<MembersGuard::Member> slots = slots_of(object);
  if (slots.empty()) return;
  for (const MembersGuard::Member& slot : slots) {
    enqueue(MembersGuard::value(object, slot), path + "." + slot.name);
  }
  guard<MembersGuard>(path, object, std::move(slots));
}

void GuardRecorder::inspect_attributes(nb::handle object, const std::string& path) {
  const nb::object dict = py::versioned_instance_dict(object);
  if (!dict.is_valid()) return;
  guard<InstanceGuard>(path, object, dict);
  inspect_values(dict, path, true);
}

void GuardRecorder::inspect_values(nb::handle dict, const std::string& path, bool as_attributes) {
  for (const auto& [key, value] : py::borrowed_items(dict)) {
    if (!is_atom(key)) enqueue(key, path);
    if (is_atom(value) || seen_.contains(value)) continue;
    enqueue(value, path + (as_attributes ? attribute_text(key) : element_text(key)));
  }
}

}  // namespace nnx_wrappers::graph
