// The places of a planned module's variables in Linen's collections, by which all of them are taken
// in one walk.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "graph/template.h"

namespace nnx_wrappers::bridge {

class VariableLayout {
 public:
  // `collections` has the collection of each slot's type, or an invalid object if it has none.
  VariableLayout(const std::vector<graph::Slot>& slots,
                 const std::vector<nanobind::object>& collections);

  // The values of the slots from the variables of a scope, without their boxes; invalid for slots
  // whose collection was not given. Nothing if a collection that was given has not exactly the
  // paths that the module has in it.
  std::optional<std::vector<nanobind::object>> take(nanobind::handle variables) const;

 private:
  struct Level;
  struct Entry {
    nanobind::object key;
    std::unique_ptr<Level> below;  // null for a leaf
    size_t slot = 0;               // of a leaf
  };
  struct Level {
    std::vector<Entry> entries;
    nanobind::dict positions;  // indices into `entries` by key
  };

  static Entry& entry_for(Level& level, const nanobind::object& key);
  static bool take_level(const Level& level, nanobind::handle given,
                         std::vector<nanobind::object>& values);

  size_t slots_;  // their number
  Level root_;    // its entries are collections
};

}  // namespace nnx_wrappers::bridge
