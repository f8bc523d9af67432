// What the library remembers between calls: one place, bounded, cleared on demand.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

namespace nnx_wrappers::bridge {

// A bounded set of hashable keys. When full it forgets everything: the keys of a
// program that runs are few, and those of one that makes new ones for ever are
// worth nothing. Holds references to its keys; needs the GIL.
class KeySet {
 public:
  bool contains(nanobind::handle key);
  void add(nanobind::handle key);
  void clear();

  size_t size() const;
  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }

 private:
  static constexpr size_t kLargest = 8192;
  nanobind::dict keys_;
  size_t hits_ = 0;
  size_t misses_ = 0;
};

class ConstructionPlan;

// Plans by the key of their recipe; where there can be none, the reason. Bounded in
// the same way.
class PlanCache {
 public:
  struct Entry {
    std::shared_ptr<const ConstructionPlan> plan;  // null: not planned
    std::string reason;
    bool reads_name = false;        // the entry to use has the name in its key
    nanobind::object interceptors;  // alive, so that the ids in the key stay theirs
  };

  // Both may run user code (__hash__, __eq__), which may clear the cache meanwhile.
  std::optional<Entry> find(nanobind::handle key);
  void add(nanobind::handle key, Entry entry);
  void clear();

  // Counts a recipe that has no key.
  void note_unkeyable(const std::string& reason) { ++unkeyable_[reason]; }

  // How many recipes there are no plans for, by reason.
  std::map<std::string, size_t> not_planned() const;

  size_t size() const { return entries_.size(); }
  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }

 private:
  static constexpr size_t kLargest = 512;
  nanobind::dict ids_;  // key -> id of its entry
  std::unordered_map<size_t, Entry> entries_;
  size_t next_id_ = 0;  // no id is used twice
  std::map<std::string, size_t> unkeyable_;
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

  KeySet& passed_shape_checks() { return passed_shape_checks_; }
  PlanCache& plans() { return plans_; }
  ClassCache& qwix_classes() { return qwix_classes_; }

  bool plans_enabled() const { return plans_enabled_; }
  void enable_plans(bool enabled) { plans_enabled_ = enabled; }

  // Forgets everything and sets the counts to zero.
  void clear();

 private:
  Caches();

  bool plans_enabled_;
  KeySet passed_shape_checks_;
  PlanCache plans_;
  ClassCache qwix_classes_;
};

}  // namespace nnx_wrappers::bridge
