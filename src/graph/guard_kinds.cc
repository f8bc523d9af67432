#include "graph/guard_kinds.h"

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/facade.h"

namespace nnx_wrappers::graph {

bool ClassGuard::holds() { return py::type_version(type_) == version_; }

bool InstanceGuard::holds() {
  if (!type_.is_exactly(reinterpret_cast<PyObject*>(Py_TYPE(object_)))) return false;
  const nb::object dict = py::optional_instance_dict(object_);
  return dict.is_valid() && items_.matches(dict.ptr());
}

NamesGuard::NamesGuard(std::string path, nb::handle owner, nb::handle dict)
    : Guard(std::move(path)),
      owner_(owner),
      owner_address_(owner.ptr()),
      dict_(dict.ptr()),
      version_(py::dict_version(dict)) {}

Py_ssize_t NamesGuard::number_of_names() const {
  const int has_registry = PyDict_Contains(dict_, py::names().warning_registry.ptr());
  if (has_registry < 0) throw nb::python_error();
  return PyDict_Size(dict_) - has_registry;
}

void NamesGuard::add(nb::handle name, nb::handle value) {
  names_.emplace_back(nb::borrow(name), value.is_valid() ? Pin(value) : Pin());
}

bool NamesGuard::holds() {
  first_changed_ = names_.size();
  if (!owner_.is_exactly(owner_address_)) return false;
  const std::uint64_t version = py::dict_version(dict_);
  if (version_ != 0 && version == version_) return true;
  if (fixed_size_ >= 0 && number_of_names() != fixed_size_) return false;
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto& [name, value] = names_[i];
    first_changed_ = i;
    if (!value.is(PyDict_GetItemWithError(dict_, name.ptr()))) return false;
  }
  version_ = version;
  return true;
}

std::string NamesGuard::changed_part() const {
  if (first_changed_ == names_.size()) return path();
  return path_of(path(), names_[first_changed_].first);
}

std::string NamesGuard::path_of(const std::string& module, nb::handle name) {
  const std::string text = py::shortened(name);
  return module == "__main__" || module == "builtins" || module.empty() ? text
                                                                        : module + "." + text;
}

MembersGuard::MembersGuard(std::string path, nb::handle object, std::vector<Member> members)
    : Guard(std::move(path)),
      object_(object.ptr()),
      type_(object.type()),
      members_(std::move(members)) {
  values_.reserve(members_.size());
  for (const Member& member : members_) {
    PyObject* now = value(object, member);
    values_.push_back(now == nullptr ? Pin() : Pin(now));
  }
}

PyObject* MembersGuard::value(nb::handle object, const Member& member) {
  return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object.ptr()) + member.offset);
}

bool MembersGuard::holds() {
  first_changed_ = 0;
  if (!type_.is_exactly(reinterpret_cast<PyObject*>(Py_TYPE(object_)))) return false;
  for (size_t i = 0; i < members_.size(); ++i) {
    first_changed_ = i;
    if (!values_[i].is(value(object_, members_[i]))) return false;
  }
  return true;
}

ElementsGuard::ElementsGuard(std::string path, nb::handle container)
    : Guard(std::move(path)), container_(container.ptr()) {
  for_each(container_, [&](PyObject* element) {
    elements_.emplace_back(element);
    return true;
  });
}

nb::object ElementsGuard::listed(PyObject* container) {
  PyTypeObject* type = Py_TYPE(container);
  while ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 && type->tp_base != nullptr &&
         type->tp_base->tp_iter != nullptr) {
    type = type->tp_base;
  }
  const nb::object iterator = nb::steal(type->tp_iter(container));
  if (!iterator.is_valid()) throw nb::python_error();
  nb::object list = nb::steal(PySequence_List(iterator.ptr()));
  if (!list.is_valid()) throw nb::python_error();
  return list;
}

bool ElementsGuard::holds() {
  size_t index = 0;
  const bool are_same = for_each(container_, [&](PyObject* element) {
    const bool is_same = index < elements_.size() && elements_[index].is(element);
    ++index;
    return is_same;
  });
  return are_same && index == elements_.size();
}

std::vector<nb::handle> referents_of(nb::handle object, traverseproc traverse) {
  std::vector<nb::handle> found;
  if (traverse == nullptr) traverse = Py_TYPE(object.ptr())->tp_traverse;
  if (traverse == nullptr) return found;
  traverse(
      object.ptr(),
      [](PyObject* referent, void* into) {
        static_cast<std::vector<nb::handle>*>(into)->emplace_back(referent);
        return 0;
      },
      &found);
  return found;
}

ReferentsGuard::ReferentsGuard(std::string path, nb::handle object, traverseproc traverse)
    : Guard(std::move(path)), object_(object.ptr()), type_(object.type()), traverse_(traverse) {
  for (const nb::handle referent : referents_of(object, traverse))
    referents_.emplace_back(referent);
}

bool ReferentsGuard::holds() {
  if (!type_.is_exactly(reinterpret_cast<PyObject*>(Py_TYPE(object_)))) return false;
  const std::vector<nb::handle> now = referents_of(object_, traverse_);
  if (now.size() != referents_.size()) return false;
  for (size_t i = 0; i < now.size(); ++i) {
    if (!referents_[i].is(now[i].ptr())) return false;
  }
  return true;
}

FunctionGuard::FunctionGuard(std::string path, nb::handle function)
    : Guard(std::move(path)), function_(function.ptr()) {
  const auto* fields = reinterpret_cast<PyFunctionObject*>(function_);
  for (PyObject* part :
       {fields->func_code, fields->func_defaults, fields->func_kwdefaults, fields->func_dict}) {
    parts_.push_back(part == nullptr ? Pin() : Pin(part));
  }
}

bool FunctionGuard::holds() {
  const auto* fields = reinterpret_cast<PyFunctionObject*>(function_);
  return parts_[0].is_exactly(fields->func_code) && parts_[1].is(fields->func_defaults) &&
         parts_[2].is(fields->func_kwdefaults) &&
         // Reading the attributes of a function without any makes an empty dict.
         (parts_[3].is(fields->func_dict) ||
          (fields->func_dict != nullptr && PyDict_Size(fields->func_dict) == 0));
}

nb::object bytes_of_numpy(nb::handle array) {
  const nb::handle type = upstream::facade().numpy_array;
  const nb::object dtype = type.attr("dtype").attr("__get__")(array);
  // Equal dtypes may differ, and an array has one until another is set.
  return nb::make_tuple(type.attr("shape").attr("__get__")(array), dtype, py::id(dtype),
                        type.attr("tobytes")(array));
}

nb::object bytes_of_bytearray(nb::handle array) {
  return nb::steal(PyBytes_FromStringAndSize(PyByteArray_AS_STRING(array.ptr()),
                                             PyByteArray_GET_SIZE(array.ptr())));
}

bool ReadGuard::holds() {
  const int is_equal = PyObject_RichCompareBool(read_(object_).ptr(), value_.ptr(), Py_EQ);
  if (is_equal < 0) PyErr_Clear();
  return is_equal == 1;
}

nb::object ContextVarGuard::value(PyObject* variable) {
  PyObject* found = nullptr;
  if (PyContextVar_Get(variable, nullptr, &found) != 0) throw nb::python_error();
  return nb::steal(found);
}

nb::object ThreadLocalGuard::dict_of(nb::handle local) {
  return py::get(local, py::names().dict_dunder);
}

nb::object WeakReferenceGuard::target(PyObject* reference) {
  PyObject* object = reinterpret_cast<PyWeakReference*>(reference)->wr_object;
  return object == Py_None || Py_REFCNT(object) == 0 ? nb::object() : nb::borrow(object);
}

LruCacheGuard::LruCacheGuard(std::string path, nb::handle dict)
    : Guard(std::move(path)), dict_(dict.ptr()) {
  for (const auto& [key, value] : py::borrowed_items(dict_)) {
    items_.emplace_back(nb::borrow(key), Pin(value));
  }
}

bool LruCacheGuard::holds() {
  if (static_cast<size_t>(PyDict_Size(dict_)) < items_.size()) return false;
  // Walks along the dict, since a look-up would run `__eq__` of the user's keys.
  size_t index = 0;
  for (const auto& [key, value] : py::borrowed_items(dict_)) {
    if (index == items_.size()) break;
    if (items_[index].first.is(key) && items_[index].second.is(value)) ++index;
  }
  return index == items_.size();
}

}  // namespace nnx_wrappers::graph
