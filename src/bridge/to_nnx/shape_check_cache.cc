#include "bridge/to_nnx/shape_check_cache.h"

#include <string>
#include <utility>

#include "py/cache_registry.h"
#include "py/containers.h"
#include "py/once.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

const py::CacheRegistration kRegistration({"shape_checks",
                                           [] { return py::counts_of(ShapeChecks::get()); },
                                           [] { ShapeChecks::get().clear(); }});

}  // namespace

ShapeChecks& ShapeChecks::get() {
  static constinit py::Once<ShapeChecks> checks;  // immortal: holds Python objects
  return checks.get([] { return ShapeChecks(); });
}

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

}  // namespace nnx_wrappers::bridge
