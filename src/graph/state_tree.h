// Linen variables as one tree by path, each leaf with the collection it came from.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <utility>
#include <vector>

#include "graph/path.h"

namespace nnx_wrappers::graph {

// A leaf given by the caller: the value (a box stays a box) and its collection.
struct StateLeaf {
  nb::object collection;
  nb::object value;
};

// One level of the tree. Owns its leaves and its children.
class StateTree {
 public:
  // Adds every leaf of one collection. Everything below it that is no dict and no
  // FrozenDict is a leaf. Throws RecursionError when too deep.
  void add_collection(nb::handle collection, nb::handle variables);

  // The child at `key`, or nullptr.
  StateTree* child(nb::handle key) const;

  // The child for a key of a module: at `key`, else, for a number, at its text, which is what
  // checkpoints that are restored without a target have in its place.
  StateTree* child_of_module(nb::handle key);

  // True if a child at or below this path was found by the text of a number.
  bool has_texts_for_numbers() const;

  // A path at which a number and its text stand side by side; empty if there is none.
  Path first_number_beside_its_text() const;

  // The leaves at this path: one for each collection that has it.
  const std::vector<StateLeaf>& leaves() const { return leaves_; }

  bool has_children() const { return !children_.empty(); }

  // Marks the leaves at this path as used.
  void mark_used() { used_ = true; }

  // Marks everything at and below this path as used.
  void mark_all_used();

  // The leaves below this path that `collection` has, as nested dicts; of all
  // collections if it is invalid.
  nb::dict to_dict(nb::handle collection) const;

  // The collections that have a leaf at or below this path, in order, each once.
  std::vector<nb::object> collections() const;

  struct Found {
    Path path;
    const StateTree* tree;
  };
  // Every path with leaves that nobody has marked, in insertion order.
  std::vector<Found> unused() const;

  // The first path that holds a leaf and has leaves below it too, with the
  // collections of both; an empty optional-like result if there is none.
  struct Conflict {
    Path path;
    nb::object leaf_collection;
    Path below;
    nb::object below_collection;
  };
  std::unique_ptr<Conflict> first_conflict() const;

 private:
  StateTree& child_or_new(nb::handle key);
  void unused_below(Path& path, std::vector<Found>& found) const;
  const StateTree* any_leaf(Path& path) const;
  std::unique_ptr<Conflict> conflict_below(Path& path) const;

  std::vector<StateLeaf> leaves_;
  std::vector<std::pair<nb::object, std::unique_ptr<StateTree>>> children_;
  nb::dict index_;  // key -> position in children_
  bool used_ = false;
  bool by_text_ = false;
};

}  // namespace nnx_wrappers::graph
