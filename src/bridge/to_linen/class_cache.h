// Classes that stand in for those of the user while Qwix intercepts.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>

namespace nnx_wrappers::bridge {

// Classes made for a class and a name. Bounded in the same way; a class of NNX is never
// freed, since JAX's registry of pytrees holds it.
class ClassCache {
 public:
  // That of this process.
  static ClassCache& get();

  // Neither runs user code.
  nanobind::object find(nanobind::handle type, nanobind::handle name);  // invalid: none
  void add(nanobind::handle type, nanobind::handle name, nanobind::handle made);
  void clear();

  size_t size() const { return nanobind::len(classes_); }
  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }

 private:
  static constexpr size_t kLargest = 4096;
  nanobind::dict classes_;  // (id of the class, name) -> subclass, which holds the class
  size_t hits_ = 0;
  size_t misses_ = 0;
};

}  // namespace nnx_wrappers::bridge
