#include "upstream/interned.h"

#include <utility>

#include "py/containers.h"
#include "py/once.h"

namespace nnx_wrappers::upstream {

namespace {

struct Table {
  static constexpr size_t kMaxEntries = 4096;  // a full table is emptied
  nb::dict short_keys;                         // by long key
  long next = 0;                               // the number of the next short key, never used twice
};

Table& table() {
  static constinit py::Once<Table> table;  // immortal: holds Python objects
  return table.get([] { return Table(); });
}

}  // namespace

nb::handle sentinel() {
  static constinit py::Once<const nb::handle> sentinel;
  return sentinel.get(
      [] { return nb::borrow(reinterpret_cast<PyObject*>(&PyBaseObject_Type))().release(); });
}

nb::object interned(const nb::object& key) {
  if (!key.is_valid()) return {};
  if (table().short_keys.size() >= Table::kMaxEntries) forget_interned();
  const nb::dict known = table().short_keys;  // owned, since a look-up may run code that forgets
  nb::object short_key = py::dict_get(known, key);
  if (short_key.is_valid()) return short_key;
  short_key = nb::make_tuple(sentinel(), table().next++);
  known[key] = short_key;
  return short_key;
}

void forget_interned() {
  // The old keys die after the table is empty, since their destructors may run user code.
  const nb::dict dying = std::exchange(table().short_keys, nb::dict());
}

}  // namespace nnx_wrappers::upstream
