// Linen's variables, merged into one tree by their paths. Each leaf knows its collection.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <utility>
#include <vector>

#include "graph/path.h"

namespace nnx_wrappers::graph {

// A leaf that the caller gave: its collection, and its value, which may be a box.
struct StateLeaf {
  nb::object collection;
  nb::object value;
};

// One level of the tree. Owns its leaves and its children.
class StateTree {
 public:
  // Adds the leaves of one collection: everything in it that is neither a dict nor a FrozenDict.
  // Throws RecursionError if it is too deep.
  void add_collection(nb::handle collection, nb::handle variables);

  // The child at `key`, or null.
  StateTree* child(nb::handle key) const;

  // The child for a key of a module, or null. A number that has no child of its own stands for the
  // child at its text: checkpoints that were restored without a target have texts for numbers.
  StateTree* child_for_module_key(nb::handle key);

  // True if child_for_module_key found a child at or below this path by the text of a number.
  bool has_numeric_text_keys() const;

  // The first path that ends with a number whose text is a key of the same level too; empty if
  // there is none.
  Path first_ambiguous_number() const;

  // The leaves at this path: one for each collection that has the path.
  const std::vector<StateLeaf>& leaves() const { return leaves_; }

  bool has_children() const { return !children_.empty(); }

  // Marks the leaves at this path as used.
  void mark_used() { used_ = true; }

  // Marks the leaves at and below this path as used.
  void mark_all_used();

  // The leaves of `collection` below this path, as nested dicts; those of all collections if it is
  // invalid.
  nb::dict to_dict(nb::handle collection) const;

  // The collections that have a leaf at or below this path, each once, in insertion order.
  std::vector<nb::object> collections() const;

  struct Found {
    Path path;
    const StateTree* tree;
  };
  // The paths with leaves that are not marked as used, in insertion order.
  std::vector<Found> unused() const;

  // A path with a leaf that is a prefix of another leaf's path.
  struct Conflict {
    Path path;
    nb::object leaf_collection;
    Path below;
    nb::object below_collection;
  };
  // The first conflict, or null if there is none.
  std::unique_ptr<Conflict> first_conflict() const;

 private:
  StateTree& child_or_new(nb::handle key);
  // `path` is the path of this tree. find_leaf leaves the path of the leaf in it.
  void add_unused(Path& path, std::vector<Found>& found) const;
  const StateTree* find_leaf(Path& path) const;
  std::unique_ptr<Conflict> find_conflict(Path& path) const;

  std::vector<StateLeaf> leaves_;
  std::vector<std::pair<nb::object, std::unique_ptr<StateTree>>> children_;
  nb::dict index_;  // key -> position in children_
  bool used_ = false;
  bool was_found_by_text_ = false;
};

}  // namespace nnx_wrappers::graph
