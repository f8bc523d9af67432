// What a module graph held at one moment, to put it back after a failed call.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// Owns references to what it saves, copies no array.
class Snapshot {
 public:
  // Saves, for every node and Variable reachable from `root`: the attributes and
  // the initializing flag of each nnx.Pytree, the items of each list and dict, the
  // stored value and the metadata of each Variable.
  void add_graph(nb::handle root);

  // Saves the attributes of one nnx.Pytree, but nothing inside them.
  void add_attributes(nb::handle pytree);

  // Puts everything back as it was, then lets die what it replaced, so that no destructor
  // of a user runs in between. Never throws: what cannot be put back (memory is out, an
  // array ref refuses) goes to sys.unraisablehook, and the rest is restored.
  void restore() const;

 private:
  struct SavedDict {
    nb::object owner;  // whose attributes it holds; otherwise invalid
    nb::dict dict;     // the live one
    nb::dict saved;    // its shallow copy
  };
  struct SavedList {
    nb::object list;
    nb::list saved;
  };
  struct SavedVariable {
    nb::object variable;
    nb::object value;     // as raw_value gave it
    nb::object contents;  // of an array ref; otherwise invalid
    nb::dict metadata;
  };
  struct SavedFlag {
    nb::object state;  // PytreeState
    nb::object initializing;
  };

  static void restore(const SavedDict& entry, std::vector<nb::object>& dying);
  static void restore(const SavedList& entry, std::vector<nb::object>& dying);
  static void restore(const SavedVariable& entry, std::vector<nb::object>& dying);

  std::vector<SavedDict> dicts_;
  std::vector<SavedList> lists_;
  std::vector<SavedVariable> variables_;
  std::vector<SavedFlag> flags_;
};

// Runs `body`; if it throws, restores `before` and rethrows.
template <typename Body>
auto all_or_nothing(const Snapshot& before, Body&& body) {
  try {
    return body();
  } catch (...) {
    before.restore();
    throw;
  }
}

}  // namespace nnx_wrappers::graph
