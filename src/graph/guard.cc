#include "graph/guard.h"

#include "graph/guard_kinds.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/trace_context.h"

namespace nnx_wrappers::graph {

void GuardSet::depend_on_entered_meshes() {
  add(std::make_unique<ReadGuard>("the meshes of `with mesh:`", nb::none(),
                                  [](nb::handle) { return upstream::entered_meshes(); }));
}

std::optional<std::string> GuardSet::first_change() const {
  const py::GarbageCollectionPause no_finalizers;
  for (const auto& guard : guards_) {
    if (!guard->holds()) return guard->changed_part();
  }
  return std::nullopt;
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
  for (const auto& [key, value] : py::borrowed_items(dict)) {
    items_.emplace_back(Pin(key), Pin(value));
  }
}

bool DictItems::matches(PyObject* dict) {
  const std::uint64_t version = py::dict_version(dict);
  if (version_ != 0 && version == version_) return true;
  size_t index = 0;
  for (const auto& [key, value] : py::borrowed_items(dict)) {
    first_changed_ = index;
    if (index == items_.size()) {
      first_added_ = nb::borrow(key);
      return false;
    }
    const auto& [old_key, old_value] = items_[index];
    if (!old_key.is(key) || !old_value.is(value)) return false;
    ++index;
  }
  first_changed_ = index;  // the first item that is missing
  if (index != items_.size()) return false;
  version_ = version;
  return true;
}

std::string DictItems::changed_part(bool as_attribute) const {
  const bool is_added = first_changed_ >= items_.size();
  const nb::handle key =
      is_added ? nb::handle(first_added_) : items_[first_changed_].first.object();
  return as_attribute ? attribute_text(key) : element_text(key);
}

std::string element_text(nb::handle key) {
  if (!key.is_valid()) return "[...]";
  if (PyUnicode_CheckExact(key.ptr())) return "['" + py::shortened(key) + "']";
  if (PyLong_CheckExact(key.ptr())) return "[" + py::utf8(key) + "]";
  return "[...]";
}

std::string attribute_text(nb::handle name) {
  return name.is_valid() && PyUnicode_CheckExact(name.ptr()) ? "." + py::shortened(name)
                                                             : element_text(name);
}

}  // namespace nnx_wrappers::graph
