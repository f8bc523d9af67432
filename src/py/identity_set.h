// Objects by identity, as user code may define equality as it likes.
#pragma once

#include <nanobind/nanobind.h>

#include <unordered_set>
#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// Holds its members: the address of an object is its own only while it lives.
class IdentitySet {
 public:
  // False if the object is a member already.
  bool insert(nb::handle object) {
    if (!members_.insert(object.ptr()).second) return false;
    kept_.push_back(nb::borrow(object));
    return true;
  }

 private:
  std::unordered_set<PyObject*> members_;
  std::vector<nb::object> kept_;
};

}  // namespace nnx_wrappers::py
