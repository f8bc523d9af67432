#include "bridge/plan/variable_layout.h"

#include <utility>

#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/linen.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

VariableLayout::VariableLayout(const std::vector<graph::Slot>& slots,
                               const std::vector<nb::object>& collections)
    : slots_(slots.size()) {
  for (size_t slot = 0; slot < slots.size(); ++slot) {
    if (!collections[slot].is_valid()) continue;
    Entry* at = &entry_for(root_, collections[slot]);
    for (const nb::object& key : slots[slot].path) {
      if (at->below == nullptr) at->below = std::make_unique<Level>();
      at = &entry_for(*at->below, key);
    }
    at->slot = slot;
  }
}

VariableLayout::Entry& VariableLayout::entry_for(Level& level, const nb::object& key) {
  const nb::object known = py::dict_get(level.positions, key);
  if (known.is_valid()) return level.entries[nb::cast<size_t>(known)];
  level.positions[key] = level.entries.size();
  level.entries.push_back({key, nullptr, 0});
  return level.entries.back();
}

std::optional<std::vector<nb::object>> VariableLayout::take(nb::handle variables) const {
  const nb::object given = upstream::level_dict(variables);
  if (!given.is_valid()) return std::nullopt;
  std::vector<nb::object> values(slots_);
  Py_ssize_t taken = 0;
  for (const Entry& collection : root_.entries) {
    const nb::object below = py::dict_get(given, collection.key);
    if (!below.is_valid()) continue;
    if (collection.below == nullptr || !take_level(*collection.below, below, values)) {
      return std::nullopt;
    }
    ++taken;
  }
  if (taken != PyDict_Size(given.ptr())) return std::nullopt;
  return values;
}

bool VariableLayout::take_level(const Level& level, nb::handle given,
                                std::vector<nb::object>& values) {
  const py::RecursionGuard guard(" while reading a tree of Linen variables");
  const nb::object dict = upstream::level_dict(given);
  if (!dict.is_valid() || static_cast<size_t>(PyDict_Size(dict.ptr())) != level.entries.size()) {
    return false;
  }
  for (const Entry& entry : level.entries) {
    const nb::object value = py::dict_get(dict, entry.key);
    if (!value.is_valid()) return false;
    if (entry.below != nullptr) {
      if (!take_level(*entry.below, value, values)) return false;
    } else {
      if (upstream::is_level(value)) return false;
      values[entry.slot] = upstream::unboxed(value);
    }
  }
  return true;
}

}  // namespace nnx_wrappers::bridge
