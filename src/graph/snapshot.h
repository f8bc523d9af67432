// The state of a module graph at one moment, to be restored after a failed call.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// Owns references to the saved objects; arrays are not copied.
class Snapshot {
 public:
  // Saves every node and Variable that is reachable from `root`: the attributes and the
  // initializing flag of each nnx.Pytree, the items of each list and dict, the stored value and the
  // metadata of each Variable.
  void add_graph(nb::handle root);

  // Saves the attributes and the initializing flag of one nnx.Pytree, and nothing inside them.
  void add_attributes(nb::handle pytree);

  // Restores everything. The objects that it replaces die at the end, so that no destructor of the
  // user's runs before everything is restored. Never throws: an error of one entry (out of memory,
  // an array ref that cannot be written) goes to sys.unraisablehook, and the others are restored.
  void restore() const;

 private:
  struct SavedDict {
    nb::object owner;  // the object whose `__dict__` it is; invalid for other dicts
    nb::dict dict;     // the live dict
    nb::dict saved;    // a shallow copy of it
  };
  struct SavedList {
    nb::object list;
    nb::list saved;
  };
  struct SavedVariable {
    nb::object variable;
    nb::object value;     // from raw_value
    nb::object contents;  // of the array ref that `value` is; invalid for other values
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
