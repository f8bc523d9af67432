#include "graph/remembered_key.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "graph/pin.h"
#include "graph/static_key.h"
#include "py/cache_registry.h"
#include "py/containers.h"
#include "py/once.h"
#include "py/recursion.h"
#include "upstream/interned.h"

namespace nnx_wrappers::graph {

namespace {

// An object and what the lists and tuples in it hold, in order. Nothing if it holds anything else
// that may change.
class Nested {
 public:
  explicit Nested(nb::handle object) { is_known_ = add(object); }

  // True if the object is this one, and holds the same.
  bool is(nb::handle object) const {
    size_t next = 0;
    return is_known_ && matches(object, next) && next == parts_.size();
  }

 private:
  bool add(nb::handle object) {
    const py::RecursionGuard guard(" while reading a setting");
    parts_.push_back(nb::borrow(object));
    if (is_atom(object.ptr())) return true;
    if (PyTuple_CheckExact(object.ptr()) == 0 && PyList_CheckExact(object.ptr()) == 0) return false;
    for (const nb::object& element : py::elements(object)) {
      if (!add(element)) return false;
    }
    parts_.emplace_back();  // ends the elements
    return true;
  }

  // The parts are owned, so that equal addresses are equal objects. Each list or tuple was read
  // without end, so this ends too.
  bool matches(nb::handle object, size_t& next) const {
    if (!is_part(next++, object)) return false;
    if (is_atom(object.ptr())) return true;
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(object.ptr()); ++i) {
      if (!matches(PySequence_Fast_GET_ITEM(object.ptr(), i), next)) return false;
    }
    return is_part(next++, {});
  }

  bool is_part(size_t number, nb::handle object) const {
    return number < parts_.size() && parts_[number].is(object);
  }

  std::vector<nb::object> parts_;
  bool is_known_ = false;
};

struct Last {
  Nested object = Nested(nb::none());
  nb::object key;
};

Last& last_key() {
  static constinit py::Once<Last> last;  // immortal: holds Python objects
  return last.get([] { return Last(); });
}

// The old one dies after it is replaced, since a destructor may ask for a key.
void remember(Last now) { std::swap(last_key(), now); }

// NOLINTNEXTLINE(cert-err58-cpp,bugprone-throwing-static-initialization)
const py::CacheRegistration kRegistration({"", {}, [] { remember({}); }});

}  // namespace

nb::object remembered_key(nb::handle object) {
  if (last_key().key.is_valid() && last_key().object.is(object)) return last_key().key;
  nb::object key = upstream::interned(static_key(object, Unknown::kByIdentity));
  if (key.is_valid()) remember({Nested(object), key});
  return key;
}

}  // namespace nnx_wrappers::graph
