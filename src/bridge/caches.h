// What the library remembers between calls: one place, bounded, cleared on demand.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <unordered_map>

#include "bridge/plan_cache.h"
#include "graph/guard_recorder.h"

namespace nnx_wrappers::bridge {

// What Flax's shape check has passed, and what that depends on. Bounded: when full it forgets
// everything, since the keys of a program that runs are few. Holds references to its keys; needs
// the GIL.
class ShapeChecks {
 public:
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

// Classes made for a class and a name. Bounded in the same way; a class of NNX is never
// freed, since JAX's registry of pytrees holds it.
class ClassCache {
 public:
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

class Caches {
 public:
  // The caches of this process; they live as long as the interpreter.
  static Caches& get();

  ShapeChecks& shape_checks() { return shape_checks_; }
  PlanCache& plans() { return plans_; }
  ClassCache& qwix_classes() { return qwix_classes_; }

  bool plans_enabled() const { return plans_enabled_; }
  void enable_plans(bool enabled) { plans_enabled_ = enabled; }

  // Forgets everything and sets the counts to zero.
  void clear();

 private:
  Caches();

  bool plans_enabled_;
  ShapeChecks shape_checks_;
  PlanCache plans_;
  ClassCache qwix_classes_;
};

}  // namespace nnx_wrappers::bridge
