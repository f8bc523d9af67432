// The cache of construction plans, by the key of the constructor call. Guards tell whether a plan
// still holds.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "bridge/plan/recorded_init.h"
#include "graph/guard.h"

namespace nnx_wrappers::bridge {

class ConstructionPlan;

// A full cache forgets everything: a program has few different constructor calls, or makes new ones
// for ever, whose plans are never used again. Needs the GIL.
class PlanCache {
 public:
  // The cache of this process, which lives as long as the interpreter.
  static PlanCache& get();

  // Whether plans are made and used: not if the environment variable NNX_WRAPPERS_PLANS is 0, or
  // after use_plans(false).
  bool is_enabled() const { return is_enabled_; }
  void enable(bool enabled) { is_enabled_ = enabled; }

  // The result of a look-up.
  struct Found {
    std::shared_ptr<const ConstructionPlan> plan;  // a plan whose guards hold, or null
    std::string reason;   // why the call is not planned; empty if a plan should be made
    std::string changed;  // the first change since a plan of this call was made
  };

  // Looks a plan up, under the second key if there is one and nothing is known of the first, and
  // compares its guards. Counts a hit or a miss. May run user code (`__hash__`, `__eq__` of what an
  // object of a library holds), which may clear the cache meanwhile.
  Found find(nanobind::handle key, nanobind::handle second_key = {});

  // A plan for one state of what the constructor depends on.
  struct NewPlan {
    std::shared_ptr<const ConstructionPlan> plan;
    std::shared_ptr<const graph::GuardSet> guards;
    std::string changed;  // from Found
  };

  // Adds a plan to those of this key. Owns the `interceptors`, whose ids are in the key, so that no
  // others get these ids. Returns the reason if the call is no longer planned, since its plans have
  // never held for long.
  std::string add(nanobind::handle key, NewPlan made, nanobind::handle interceptors);

  // Notes that no plan could be made. The call is not planned from then on; if `may_be_retried`,
  // only after a few attempts.
  void add_reason(nanobind::handle key, const std::string& reason, bool may_be_retried,
                  nanobind::handle interceptors);

  // The first `init` with this key. Nothing if there was none yet, or if what its constructor had
  // read has changed since.
  std::optional<RecordedInit::Finished> find_init(nanobind::handle key);

  // Notes the first `init` with this key.
  void note_init(nanobind::handle key, RecordedInit::Finished first);

  // Counts a constructor call that has no key.
  void note_unkeyable(const std::string& reason) { ++unkeyable_[reason]; }

  void clear();

  // The number of constructor calls that are not planned, by reason.
  std::map<std::string, size_t> not_planned() const;

  // The number of plans that were made anew, by what had changed.
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
    size_t attempts = 0;  // that failed
    size_t hits = 0;
    size_t rebuilt = 0;
    nanobind::object interceptors;
  };

  static constexpr size_t kMaxEntries = 512;
  static constexpr size_t kMaxPlans = 8;     // of one key
  static constexpr size_t kMaxAttempts = 3;  // of one key, if they may be retried
  static constexpr size_t kMaxRebuilt = 8;   // of one key, if there were not as many hits

  PlanCache();

  Found look_up(nanobind::handle key);
  void note_hit(size_t id, const std::shared_ptr<const ConstructionPlan>& plan);

  // The entry of a key, made if it is missing; null if the look-up has cleared the cache.
  Entry* entry_for(nanobind::handle key, nanobind::handle interceptors);

  bool is_enabled_;
  nanobind::dict ids_;  // the ids of entries by key
  std::unordered_map<size_t, Entry> entries_;
  size_t next_id_ = 0;                                        // no id is used twice
  nanobind::dict init_ids_;                                   // the ids of recorded `init`s by key
  std::unordered_map<size_t, RecordedInit::Finished> inits_;  // kMaxEntries at most
  std::map<std::string, size_t> unkeyable_;
  std::map<std::string, size_t> rebuilt_;
  size_t hits_ = 0;
  size_t misses_ = 0;
};

}  // namespace nnx_wrappers::bridge
