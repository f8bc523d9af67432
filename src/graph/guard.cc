#include "graph/guard.h"

#include "py/object.h"
#include "py/versions.h"

namespace nnx_wrappers::graph {

bool GuardSet::holds(std::string& changed) const {
  const py::NoCollection no_finalizers;
  for (const auto& guard : guards_) {
    if (guard->holds()) continue;
    changed = guard->changed();
    return false;
  }
  return true;
}

size_t GuardSet::size() const {
  size_t size = 0;
  for (const auto& guard : guards_) size += guard->size();
  return size;
}

bool GuardSet::sees_every_change() const {
  for (const auto& guard : guards_) {
    if (!guard->sees_every_change()) return false;
  }
  return true;
}

DictItems::DictItems(nb::handle dict) : version_(py::dict_version(dict)) {
  items_.reserve(static_cast<size_t>(PyDict_Size(dict.ptr())));
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  while (PyDict_Next(dict.ptr(), &position, &key, &value) != 0) {
    items_.emplace_back(Pin(key), Pin(value));
  }
}

bool DictItems::are_those_of(PyObject* dict) {
  const std::uint64_t version = py::dict_version(dict);
  if (version_ != 0 && version == version_) return true;
  Py_ssize_t position = 0;
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  size_t index = 0;
  while (PyDict_Next(dict, &position, &key, &value) != 0) {
    first_changed_ = index;
    if (index == items_.size()) {
      first_new_ = nb::borrow(key);
      return false;
    }
    const auto& [old_key, old_value] = items_[index];
    if (!old_key.is(key) || !old_value.is(value)) return false;
    ++index;
  }
  first_changed_ = index;  // the first that is gone
  if (index != items_.size()) return false;
  version_ = version;
  return true;
}

std::string DictItems::changed(bool as_attribute) const {
  const bool is_new = first_changed_ >= items_.size();
  const nb::handle key = is_new ? nb::handle(first_new_) : items_[first_changed_].first.object();
  return as_attribute ? attribute_text(key) : element_text(key);
}

std::string element_text(nb::handle key) {
  if (!key.is_valid()) return "[...]";
  if (PyUnicode_CheckExact(key.ptr())) return "['" + py::text_of(key) + "']";
  if (PyLong_CheckExact(key.ptr())) return "[" + py::utf8(key) + "]";
  return "[...]";
}

std::string attribute_text(nb::handle name) {
  return name.is_valid() && PyUnicode_CheckExact(name.ptr()) ? "." + py::text_of(name)
                                                             : element_text(name);
}

}  // namespace nnx_wrappers::graph
