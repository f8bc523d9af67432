// Construction plans by the key of the constructor call, and the guards that say whether they still
// hold.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/guard.h"

namespace nnx_wrappers::bridge {

class ConstructionPlan;

// Bounded: when full it forgets everything, since a program that runs has few constructor calls,
// and those of one that makes new ones for ever are worth nothing. Needs the GIL.
class PlanCache {
 public:
  // That of this process; it lives as long as the interpreter.
  static PlanCache& get();

  // Whether plans are made and used: unless NNX_WRAPPERS_PLANS is 0, or use_plans(false) said so.
  bool is_enabled() const { return is_enabled_; }
  void enable(bool enabled) { is_enabled_ = enabled; }

  // The answer to a look-up.
  struct Found {
    std::shared_ptr<const ConstructionPlan> plan;  // whose guards hold; null: see the reason
    std::string reason;   // why the call is not planned; empty if a plan is to be made
    std::string changed;  // what the plans that there are do not hold for any more
  };

  // Runs user code (`__hash__`, `__eq__` of a metaclass), which may clear the cache meanwhile.
  // Comparing guards runs none.
  Found find(nanobind::handle key);

  // Adds a plan beside those that there are for other states of what it depends on; `changed` from
  // the look-up. `interceptors` stay alive, so that the ids in the key stay theirs. Returns the
  // reason if the call is not planned any more, since its plans never hold for long.
  std::string add(nanobind::handle key, std::shared_ptr<const ConstructionPlan> plan,
                  std::shared_ptr<const graph::GuardSet> guards, const std::string& changed,
                  nanobind::handle interceptors);

  // Notes that a constructor call has no plan. After a few times without success it is not tried
  // again, unless `may_be_retried` says that the call itself is not to blame.
  void add_reason(nanobind::handle key, const std::string& reason, bool may_be_retried,
                  nanobind::handle interceptors);

  // Counts a constructor call that has no key.
  void note_unkeyable(const std::string& reason) { ++unkeyable_[reason]; }

  void clear();

  // How many constructor calls there are no plans for, by reason.
  std::map<std::string, size_t> not_planned() const;

  // How many plans were made anew, by what had changed.
  const std::map<std::string, size_t>& rebuilt() const { return rebuilt_; }

  size_t size() const;
  size_t hits() const { return hits_; }
  size_t misses() const { return misses_; }

 private:
  struct Guarded {
    std::shared_ptr<const ConstructionPlan> plan;
    std::shared_ptr<const graph::GuardSet> guards;
  };
  struct Entry {
    std::vector<Guarded> plans;  // the last used one first
    std::string reason;
    size_t attempts = 0;  // without a plan
    size_t hits = 0;
    size_t rebuilt = 0;
    nanobind::object interceptors;
  };

  static constexpr size_t kLargest = 512;
  static constexpr size_t kMostPlans = 8;     // of one call
  static constexpr size_t kMostAttempts = 3;  // to plan what changes while it runs
  static constexpr size_t kMostRebuilt = 8;   // without as many hits

  PlanCache();

  Entry* entry(nanobind::handle key, nanobind::handle interceptors);

  bool is_enabled_;
  nanobind::dict ids_;  // key -> id of its entry
  std::unordered_map<size_t, Entry> entries_;
  size_t next_id_ = 0;  // no id is used twice
  std::map<std::string, size_t> unkeyable_;
  std::map<std::string, size_t> rebuilt_;
  size_t hits_ = 0;
  size_t misses_ = 0;
};

}  // namespace nnx_wrappers::bridge
