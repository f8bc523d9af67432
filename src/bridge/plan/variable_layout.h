// Where the variables of a planned module stand in Linen's collections, and how to
// take them from there without looking for them one by one.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <vector>

#include "graph/template.h"

namespace nnx_wrappers::bridge {

class VariableLayout {
 public:
  // `collections` names the collection of each slot's type; an invalid object where
  // it has none.
  VariableLayout(const std::vector<graph::Slot>& slots,
                 const std::vector<nanobind::object>& collections);

  // Takes the variables of a scope into `values`, one for each slot, if each
  // collection that is there is exactly that of the module: no path more, none less.
  // Boxes are opened. Returns false, and leaves values that mean nothing, otherwise.
  bool take(nanobind::handle variables, std::vector<nanobind::object>& values) const;

 private:
  struct Level;
  struct Entry {
    nanobind::object key;
    std::unique_ptr<Level> below;  // null: a leaf
    size_t slot = 0;
  };
  struct Level {
    std::vector<Entry> entries;
    nanobind::dict positions;  // key -> index into entries
  };

  static Entry& entry(Level& level, const nanobind::object& key);
  static bool take_level(const Level& level, nanobind::handle given,
                         std::vector<nanobind::object>& values);

  Level root_;  // its entries are collections
};

}  // namespace nnx_wrappers::bridge
