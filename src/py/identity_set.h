// A set of objects by identity, since user code may define equality as it likes.
#pragma once

#include <nanobind/nanobind.h>

#include <unordered_set>
#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// Owns its members, so that no other object gets the address of one.
class IdentitySet {
 public:
  // Returns false if the object is a member already.
  bool insert(nb::handle object) {
    if (!members_.insert(object.ptr()).second) return false;
    kept_.push_back(nb::borrow(object));
    return true;
  }

  bool contains(nb::handle object) const { return members_.contains(object.ptr()); }

 private:
  std::unordered_set<PyObject*> members_;
  std::vector<nb::object> kept_;
};

}  // namespace nnx_wrappers::py
