#include "bridge/caches.h"

#include <string>
#include <utility>

#include "flax/static_key.h"
#include "nnx_wrappers/caches.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

// A look-up runs __hash__ and __eq__ of the keys, which may clear the table: it holds the
// dict that it looks into.

ShapeChecks::Known ShapeChecks::find(nb::handle key) {
  const nb::dict ids = ids_;
  const nb::object id = py::dict_get(ids, key);
  const auto known = id.is_valid() ? entries_.find(nb::cast<size_t>(id)) : entries_.end();
  std::string changed;
  const bool is_known = known != entries_.end();
  const bool has_passed = is_known && known->second != nullptr && known->second->holds(changed);
  ++(has_passed ? hits_ : misses_);
  if (has_passed) return Known::kPassed;
  return is_known && known->second == nullptr ? Known::kNeverKept : Known::kUnknown;
}

void ShapeChecks::add(nb::handle key, graph::Dependences dependences) {
  if (dependences.guards == nullptr && dependences.may_be_retried) return;
  if (entries_.size() >= kLargest) clear();
  const nb::dict ids = ids_;
  const nb::object known = py::dict_get(ids, key);
  const size_t id = known.is_valid() ? nb::cast<size_t>(known) : next_id_++;
  if (!known.is_valid()) ids[key] = id;
  if (!ids.is(ids_)) return;  // cleared meanwhile: nothing would lead to it
  const auto dying = std::exchange(entries_[id], std::move(dependences.guards));
}

void ShapeChecks::clear() {
  // What the keys own dies after the table is empty: their destructors may call us.
  const nb::dict dying = std::exchange(ids_, nb::dict());
  const auto dying_entries = std::exchange(entries_, {});
  hits_ = 0;
  misses_ = 0;
}

Caches& Caches::get() {
  static constinit py::Once<Caches> caches;  // immortal: holds Python objects
  return caches.get([] { return Caches(); });
}

Caches::Caches() {
  const nb::object environment = nb::module_::import_("os").attr("environ");
  plans_enabled_ = !environment.attr("get")("NNX_WRAPPERS_PLANS", "1").equal(nb::str("0"));
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
  shape_checks_.clear();
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
  nb::dict rebuilt;
  for (const auto& [guard, count] : caches.plans().rebuilt()) rebuilt[guard.c_str()] = count;
  plans["rebuilt"] = rebuilt;
  nb::dict info;
  info["plans"] = plans;
  info["qwix_classes"] = counts_of(caches.qwix_classes());
  info["shape_checks"] = counts_of(caches.shape_checks());
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
