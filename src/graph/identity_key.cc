#include "graph/identity_key.h"

#include <cstddef>
#include <unordered_map>
#include <utility>

#include "graph/static_key.h"
#include "py/once.h"

namespace nnx_wrappers::graph {

namespace {

struct Known {
  nb::object reference;  // weak
  nb::object key;
};

using Table = std::unordered_map<PyObject*, Known>;

constexpr size_t kMaxEntries = 4096;

Table& table() {
  static constinit py::Once<Table> table;  // immortal: holds Python objects
  return table.get([] { return Table(); });
}

bool is_dead(const Table::value_type& entry) {
  return reinterpret_cast<PyWeakReference*>(entry.second.reference.ptr())->wr_object == Py_None;
}

// Makes room in a full table: forgets the dead, or all keys if half of the objects are alive.
void make_room() {
  if (table().size() < kMaxEntries) return;
  std::erase_if(table(), is_dead);
  if (table().size() > kMaxEntries / 2) forget_keys();
}

}  // namespace

nb::object weak_reference(nb::handle object) {
  PyObject* reference = PyWeakref_NewRef(object.ptr(), nullptr);
  if (reference == nullptr) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw nb::python_error();
    PyErr_Clear();
    return {};
  }
  return nb::steal(reference);
}

nb::object identity_key(nb::handle object) {
  nb::object reference = weak_reference(object);
  if (!reference.is_valid()) return {};
  const auto known = table().find(object.ptr());
  // A live object has one weak reference without a callback, which each call returns. A new object
  // at the address of a dead one has another.
  if (known != table().end() && known->second.reference.is(reference)) return known->second.key;
  make_room();
  nb::object key = nb::borrow(reinterpret_cast<PyObject*>(&PyBaseObject_Type))();
  table()[object.ptr()] = {std::move(reference), key};
  return key;
}

std::shared_ptr<const void> take_identity_keys() {
  return std::make_shared<const Table>(std::exchange(table(), {}));
}

}  // namespace nnx_wrappers::graph
