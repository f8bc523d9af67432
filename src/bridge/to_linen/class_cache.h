// The cache of the classes that replace those of NNX modules while Qwix intercepts.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>

namespace nnx_wrappers::bridge {

// Subclasses by class and name. A full cache forgets everything. JAX's registry of pytrees owns
// every class of NNX modules, so a forgotten class stays alive.
class ClassCache {
 public:
  // The cache of this process.
  static ClassCache& get();

  // The class that was added, or an invalid object. Runs no user code.
  nanobind::object find(nanobind::handle type, nanobind::handle name);
  void add(nanobind::handle type, nanobind::handle name, nanobind::handle made);
  void clear();

  size_t size() const { return nanobind::len(classes_); }
  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }

 private:
  static constexpr size_t kMaxEntries = 4096;
  nanobind::dict classes_;  // subclasses, which own their base, by (id of the base, name)
  size_t hits_ = 0;
  size_t misses_ = 0;
};

}  // namespace nnx_wrappers::bridge
