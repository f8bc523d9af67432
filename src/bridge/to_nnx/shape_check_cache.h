// The cache of the parameters that have passed Linen's shape check.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <unordered_map>

#include "graph/guard_recorder.h"

namespace nnx_wrappers::bridge {

// Remembers by key which checks have passed, with guards for what the initializer depends on. A
// full cache forgets everything, since a running program has few keys. Needs the GIL.
class ShapeCheckCache {
 public:
  // The cache of this process.
  static ShapeCheckCache& get();

  enum class Status {
    kPassed,       // the check has passed, and nothing has changed since
    kUnknown,      // the check has to run, and may be remembered
    kNotCacheable  // the check has to run each time
  };

  // Runs user code of the key (`__hash__`, `__eq__`), which may clear the cache.
  Status find(nanobind::handle key);

  // Remembers a check that has passed while `dependencies` were recorded.
  void add(nanobind::handle key, graph::Dependencies dependencies);
  void clear();

  size_t size() const { return entries_.size(); }
  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }

 private:
  static constexpr size_t kMaxEntries = 8192;
  nanobind::dict ids_;  // the ids of entries by key
  // Guards by id; null for a key that is not cacheable.
  std::unordered_map<size_t, std::shared_ptr<const graph::GuardSet>> entries_;
  size_t next_id_ = 0;
  size_t hits_ = 0;
  size_t misses_ = 0;
};

}  // namespace nnx_wrappers::bridge
