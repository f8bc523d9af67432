// Which parameters have passed Linen's shape check.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <unordered_map>

#include "graph/guard_recorder.h"

namespace nnx_wrappers::bridge {

// What Flax's shape check has passed, and what that depends on. Bounded: when full it forgets
// everything, since the keys of a program that runs are few. Holds references to its keys; needs
// the GIL.
class ShapeChecks {
 public:
  // That of this process.
  static ShapeChecks& get();

  enum class Known {
    kPassed,    // and nothing has changed since
    kUnknown,   // to be checked, and recorded
    kNeverKept  // to be checked each time
  };

  // Runs user code (`__hash__`, `__eq__`) of the key, which may clear the cache.
  Known find(nanobind::handle key);
  void add(nanobind::handle key, graph::Dependences dependences);
  void clear();

  size_t size() const { return entries_.size(); }
  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }

 private:
  static constexpr size_t kLargest = 8192;
  nanobind::dict ids_;  // key -> id of its entry
  std::unordered_map<size_t, std::shared_ptr<const graph::GuardSet>> entries_;  // null: never kept
  size_t next_id_ = 0;
  size_t hits_ = 0;
  size_t misses_ = 0;
};

}  // namespace nnx_wrappers::bridge
