#include "upstream/interned.h"

#include <utility>

#include "py/containers.h"
#include "py/once.h"

namespace nnx_wrappers::upstream {

namespace {

struct Table {
  static constexpr size_t kMost = 4096;  // when full it forgets all
  nb::dict tokens;                       // long key -> short key
  long next = 0;                         // no token is used twice, so old ones stay unequal
};

Table& table() {
  static constinit py::Once<Table> table;  // immortal: holds Python objects
  return table.get([] { return Table(); });
}

}  // namespace

nb::handle mark() {
  static constinit py::Once<const nb::handle> mark;
  return mark.get(
      [] { return nb::borrow(reinterpret_cast<PyObject*>(&PyBaseObject_Type))().release(); });
}

nb::object interned(const nb::object& key) {
  if (!key.is_valid()) return {};
  if (table().tokens.size() >= Table::kMost) forget_interned();
  const nb::dict tokens = table().tokens;  // held: a look-up may run code that forgets
  nb::object token = py::dict_get(tokens, key);
  if (token.is_valid()) return token;
  token = nb::make_tuple(mark(), table().next++);
  tokens[key] = token;
  return token;
}

void forget_interned() {
  // What the keys own dies when the table is empty.
  const nb::dict dying = std::exchange(table().tokens, nb::dict());
}

}  // namespace nnx_wrappers::upstream
