#include "bridge/caches.h"

#include <utility>

#include "bridge/construction_plan.h"
#include "flax/static_key.h"
#include "nnx_wrappers/caches.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

// A look-up runs __hash__ and __eq__ of the keys, which may clear the table: it holds the
// dict that it looks into.

bool KeySet::contains(nb::handle key) {
  const nb::dict keys = keys_;
  const bool found = py::dict_get(keys, key).is_valid();
  ++(found ? hits_ : misses_);
  return found;
}

void KeySet::add(nb::handle key) {
  if (nb::len(keys_) >= kLargest) clear();
  const nb::dict keys = keys_;
  keys[key] = nb::none();
}

void KeySet::clear() {
  // What the keys own dies after the table is empty: their destructors may call us.
  const nb::dict dying = keys_;
  keys_ = nb::dict();
  hits_ = 0;
  misses_ = 0;
}

size_t KeySet::size() const { return nb::len(keys_); }

Caches& Caches::get() {
  static constinit py::Once<Caches> caches;  // immortal: holds Python objects
  return caches.get([] { return Caches(); });
}

Caches::Caches() {
  const nb::object environment = nb::module_::import_("os").attr("environ");
  plans_enabled_ = !environment.attr("get")("NNX_WRAPPERS_PLANS", "1").equal(nb::str("0"));
}

std::map<std::string, size_t> PlanCache::not_planned() const {
  std::map<std::string, size_t> counts = unkeyable_;
  for (const auto& [id, entry] : entries_) {
    if (entry.plan == nullptr && !entry.reads_name) ++counts[entry.reason];
  }
  return counts;
}

std::optional<PlanCache::Entry> PlanCache::find(nb::handle key) {
  const nb::dict ids = ids_;
  const nb::object id = py::dict_get(ids, key);
  const auto found = id.is_valid() ? entries_.find(nb::cast<size_t>(id)) : entries_.end();
  const bool is_known = found != entries_.end();
  const bool is_pointer = is_known && found->second.reads_name;  // the next look-up counts
  if (!is_pointer) ++(is_known ? hits_ : misses_);
  return is_known ? std::optional(found->second) : std::nullopt;
}

void PlanCache::add(nb::handle key, Entry entry) {
  if (entries_.size() >= kLargest) clear();
  const nb::dict ids = ids_;
  const size_t id = next_id_++;
  entries_.emplace(id, std::move(entry));
  // What is taken out dies at the end, when the table is whole: its destructor may call us.
  using Dying = decltype(entries_)::node_type;
  Dying dying;
  Dying unreachable;
  try {
    const nb::object earlier = py::dict_get(ids, key);  // of a build inside this one
    if (earlier.is_valid()) dying = entries_.extract(nb::cast<size_t>(earlier));
    ids[key] = id;
  } catch (...) {
    unreachable = entries_.extract(id);
    throw;
  }
  if (!ids.is(ids_)) unreachable = entries_.extract(id);  // cleared meanwhile: nothing leads to it
}

void PlanCache::clear() {
  const nb::dict dying_keys = std::exchange(ids_, nb::dict());
  const auto dying = std::exchange(entries_, {});
  unkeyable_.clear();
  hits_ = 0;
  misses_ = 0;
}

nb::object ClassCache::find(nb::handle type, nb::handle name) {
  nb::object found = py::dict_get(classes_, nb::make_tuple(py::id(type), name));
  ++(found.is_valid() ? hits_ : misses_);
  return found;
}

void ClassCache::add(nb::handle type, nb::handle name, nb::handle made) {
  if (nb::len(classes_) >= kLargest) clear();
  classes_[nb::make_tuple(py::id(type), name)] = made;
}

void ClassCache::clear() {
  const nb::dict dying = std::exchange(classes_, nb::dict());
  hits_ = 0;
  misses_ = 0;
}

void Caches::clear() {
  flax::forget_keys();
  passed_shape_checks_.clear();
  plans_.clear();
  qwix_classes_.clear();
}

}  // namespace nnx_wrappers::bridge

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

template <typename Cache>
nb::dict counts_of(const Cache& cache) {
  nb::dict counts;
  counts["size"] = cache.size();
  counts["hits"] = cache.hits();
  counts["misses"] = cache.misses();
  return counts;
}

}  // namespace

nb::dict cache_info() {
  bridge::Caches& caches = bridge::Caches::get();
  nb::dict plans = counts_of(caches.plans());
  nb::dict reasons;
  for (const auto& [reason, count] : caches.plans().not_planned()) {
    reasons[nb::str(reason.c_str())] = count;
  }
  plans["not_planned"] = reasons;
  nb::dict info;
  info["plans"] = plans;
  info["qwix_classes"] = counts_of(caches.qwix_classes());
  info["shape_checks"] = counts_of(caches.passed_shape_checks());
  return info;
}

void clear_caches() { bridge::Caches::get().clear(); }

bool use_plans(bool enabled) {
  bridge::Caches& caches = bridge::Caches::get();
  const bool before = caches.plans_enabled();
  caches.enable_plans(enabled);
  return before;
}

}  // namespace nnx_wrappers
