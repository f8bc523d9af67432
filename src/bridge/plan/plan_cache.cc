#include "bridge/plan/plan_cache.h"

#include <algorithm>
#include <utility>

#include "bridge/plan/construction_plan.h"
#include "nnx_wrappers/caches.h"
#include "py/cache_registry.h"
#include "py/containers.h"
#include "py/once.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

nb::dict counts() {
  const PlanCache& plans = PlanCache::get();
  nb::dict counts = py::counts_of(plans);
  nb::dict reasons;
  for (const auto& [reason, count] : plans.not_planned()) reasons[reason.c_str()] = count;
  counts["not_planned"] = reasons;
  nb::dict rebuilt;
  for (const auto& [guard, count] : plans.rebuilt()) rebuilt[guard.c_str()] = count;
  counts["rebuilt"] = rebuilt;
  return counts;
}

// Runs no Python, and throws only where there is no memory.
// NOLINTNEXTLINE(cert-err58-cpp,bugprone-throwing-static-initialization)
const py::CacheRegistration kRegistration({"plans", counts, [] { PlanCache::get().clear(); }});

}  // namespace

PlanCache& PlanCache::get() {
  static constinit py::Once<PlanCache> plans;  // immortal: holds Python objects
  return plans.get([] { return PlanCache(); });
}

PlanCache::PlanCache() {
  const nb::object environment = nb::module_::import_("os").attr("environ");
  is_enabled_ = !environment.attr("get")("NNX_WRAPPERS_PLANS", "1").equal(nb::str("0"));
}

PlanCache::Found PlanCache::find(nb::handle key, nb::handle second_key) {
  Found found = look_up(key);
  if (second_key.is_valid() && found.plan == nullptr && found.reason.empty()) {
    Found second = look_up(second_key);
    if (second.changed.empty()) second.changed = std::move(found.changed);
    found = std::move(second);
  }
  ++(found.plan != nullptr ? hits_ : misses_);
  return found;
}

PlanCache::Found PlanCache::look_up(nb::handle key) {
  const nb::dict ids = ids_;  // owned, since a look-up may clear the cache
  const nb::object id = py::dict_get(ids, key);
  const auto known = id.is_valid() ? entries_.find(nb::cast<size_t>(id)) : entries_.end();
  if (known == entries_.end()) return {};
  Found found;
  found.reason = known->second.reason;
  // Owned, since comparing may run Python, during which another thread may change the entry.
  const std::vector<Guarded> plans = known->second.plans;
  for (const Guarded& one : plans) {
    const std::optional<std::string> change = one.plan->has_deleted_arrays()
                                                  ? "an array of the module that was deleted"
                                                  : one.guards->first_change();
    if (!change) {
      found.plan = one.plan;
      found.reason.clear();
      note_hit(nb::cast<size_t>(id), found.plan);
      return found;
    }
    if (found.changed.empty()) found.changed = *change;
  }
  return found;
}

// Counts a hit, and puts the plan before the others of its entry.
void PlanCache::note_hit(size_t id, const std::shared_ptr<const ConstructionPlan>& plan) {
  const auto known = entries_.find(id);
  if (known == entries_.end()) return;
  std::vector<Guarded>& plans = known->second.plans;
  ++known->second.hits;
  const auto found =
      std::ranges::find_if(plans, [&](const Guarded& one) { return one.plan == plan; });
  if (found != plans.end()) std::rotate(plans.begin(), found, found + 1);
}

PlanCache::Entry* PlanCache::entry_for(nb::handle key, nb::handle interceptors) {
  if (entries_.size() >= kMaxEntries) clear();
  const nb::dict ids = ids_;
  const nb::object known = py::dict_get(ids, key);
  if (known.is_valid()) {
    const auto found = entries_.find(nb::cast<size_t>(known));
    if (found != entries_.end()) return &found->second;
  }
  const size_t id = next_id_++;
  ids[key] = id;
  if (!ids.is(ids_)) return nullptr;  // the cache was cleared meanwhile, so the id is in no dict
  Entry& made = entries_[id];
  made.interceptors = nb::borrow(interceptors);
  return &made;
}

std::string PlanCache::add(nb::handle key, NewPlan made, nb::handle interceptors) {
  Entry* entry = entry_for(key, interceptors);
  if (entry == nullptr) return "";
  // Plans that are removed die at the end, since their destructors may call this library.
  std::vector<Guarded> dying;
  if (!made.changed.empty()) {
    ++rebuilt_[made.changed];
    ++entry->rebuilt;
    if (entry->rebuilt > kMaxRebuilt && entry->rebuilt > entry->hits) {
      entry->reason = made.changed + " changes from call to call";
      dying = std::exchange(entry->plans, {});
      return entry->reason;
    }
  }
  entry->plans.insert(entry->plans.begin(), {std::move(made.plan), std::move(made.guards)});
  while (entry->plans.size() > kMaxPlans) {
    dying.push_back(std::move(entry->plans.back()));
    entry->plans.pop_back();
  }
  return "";
}

void PlanCache::add_reason(nb::handle key, const std::string& reason, bool may_be_retried,
                           nb::handle interceptors) {
  Entry* entry = entry_for(key, interceptors);
  if (entry == nullptr || !entry->plans.empty()) return;
  if (!may_be_retried || ++entry->attempts >= kMaxAttempts) entry->reason = reason;
}

std::optional<RecordedInit::Finished> PlanCache::find_init(nb::handle key) {
  const nb::dict ids = init_ids_;  // owned, since a look-up may clear the cache
  const nb::object id = py::dict_get(ids, key);
  const auto known = id.is_valid() ? inits_.find(nb::cast<size_t>(id)) : inits_.end();
  if (known == inits_.end()) return std::nullopt;
  RecordedInit::Finished first = known->second;
  const bool has_changed = first.guards != nullptr && first.guards->first_change();
  return has_changed ? std::nullopt : std::optional(std::move(first));
}

void PlanCache::note_init(nb::handle key, RecordedInit::Finished first) {
  const bool is_full = inits_.size() >= kMaxEntries;
  const nb::dict dying_ids = is_full ? std::exchange(init_ids_, nb::dict()) : nb::dict();
  const auto dying = is_full ? std::exchange(inits_, {}) : decltype(inits_)();
  const nb::dict ids = init_ids_;
  const nb::object known = py::dict_get(ids, key);
  const size_t id = known.is_valid() ? nb::cast<size_t>(known) : next_id_++;
  ids[key] = id;
  if (!ids.is(init_ids_)) return;  // the cache was cleared meanwhile
  std::swap(inits_[id], first);    // what was noted before dies at the end
}

std::map<std::string, size_t> PlanCache::not_planned() const {
  std::map<std::string, size_t> counts = unkeyable_;
  for (const auto& [id, entry] : entries_) {
    if (!entry.reason.empty()) ++counts[entry.reason];
  }
  return counts;
}

size_t PlanCache::size() const {
  size_t size = 0;
  for (const auto& [id, entry] : entries_) size += std::max<size_t>(entry.plans.size(), 1);
  return size;
}

void PlanCache::clear() {
  const nb::dict dying_keys = std::exchange(ids_, nb::dict());
  const nb::dict dying_init_ids = std::exchange(init_ids_, nb::dict());
  const auto dying_inits = std::exchange(inits_, {});
  const auto dying = std::exchange(entries_, {});
  unkeyable_.clear();
  rebuilt_.clear();
  hits_ = 0;
  misses_ = 0;
}

}  // namespace nnx_wrappers::bridge

namespace nnx_wrappers {

bool use_plans(bool enabled) {
  bridge::PlanCache& plans = bridge::PlanCache::get();
  const bool before = plans.is_enabled();
  plans.enable(enabled);
  return before;
}

}  // namespace nnx_wrappers
