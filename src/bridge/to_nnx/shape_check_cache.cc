#include "bridge/to_nnx/shape_check_cache.h"

#include <string>
#include <utility>

#include "py/cache_registry.h"
#include "py/containers.h"
#include "py/once.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// Runs no Python, and throws only where there is no memory.
// NOLINTNEXTLINE(cert-err58-cpp,bugprone-throwing-static-initialization)
const py::CacheRegistration kRegistration({"shape_checks",
                                           [] { return py::counts_of(ShapeCheckCache::get()); },
                                           [] { ShapeCheckCache::get().clear(); }});

}  // namespace

ShapeCheckCache& ShapeCheckCache::get() {
  static constinit py::Once<ShapeCheckCache> checks;  // immortal: holds Python objects
  return checks.get([] { return ShapeCheckCache(); });
}

// A look-up in `ids_` runs `__hash__` and `__eq__` of keys, which may clear the cache, so it owns
// the dict that it looks into.

ShapeCheckCache::Status ShapeCheckCache::find(nb::handle key) {
  const nb::dict ids = ids_;
  const nb::object id = py::dict_get(ids, key);
  const auto known = id.is_valid() ? entries_.find(nb::cast<size_t>(id)) : entries_.end();
  const bool is_known = known != entries_.end();
  const bool has_passed =
      is_known && known->second != nullptr && !known->second->first_change().has_value();
  ++(has_passed ? hits_ : misses_);
  if (has_passed) return Status::kPassed;
  return is_known && known->second == nullptr ? Status::kNotCacheable : Status::kUnknown;
}

void ShapeCheckCache::add(nb::handle key, graph::Dependencies dependencies) {
  if (dependencies.guards == nullptr && dependencies.may_be_retried) return;
  if (entries_.size() >= kMaxEntries) clear();
  const nb::dict ids = ids_;
  const nb::object known = py::dict_get(ids, key);
  const size_t id = known.is_valid() ? nb::cast<size_t>(known) : next_id_++;
  if (!known.is_valid()) ids[key] = id;
  if (!ids.is(ids_)) return;  // the cache was cleared meanwhile, so the id is in no dict
  const auto dying = std::exchange(entries_[id], std::move(dependencies.guards));
}

void ShapeCheckCache::clear() {
  // The keys die after the cache is empty, since their destructors may call this library.
  const nb::dict dying = std::exchange(ids_, nb::dict());
  const auto dying_entries = std::exchange(entries_, {});
  hits_ = 0;
  misses_ = 0;
}

}  // namespace nnx_wrappers::bridge
