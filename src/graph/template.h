// A module graph without its values: made once from a live graph, instantiated
// again and again.
//
// A Template owns types, metadata and static attributes, but no array that came out
// of a trace, no live node and no Variable, so it may outlive the trace it was made
// in. Instances share nothing mutable with each other.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "graph/path.h"
#include "upstream/node.h"

namespace nnx_wrappers::graph {

// Why a graph cannot be kept as a Template: the path and what stands there.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// One place for a value: a Variable's, or that of a bare leaf.
struct Slot {
  Path path;
  nb::object type;         // the Variable's type; invalid for a bare leaf
  nb::object constant;     // a value that holds no tracer; invalid otherwise
  bool is_hidden;          // what a closure holds: no part of the module's state
  bool is_shared = false;  // the constant was there before: each instance has it itself
};

// What an instance shares with the graph that was captured although its type does not say so:
// asked for static attributes (owner, name, value).
using MayShare = std::function<bool(nb::handle owner, nb::handle name, nb::handle value)>;

// What a capture took out of the graph.
struct Captured {
  std::vector<nb::object> values;   // those of the slots, in order; pytrees possible
  std::vector<nb::object> pytrees;  // each nnx.Pytree of the graph, made in the present trace
};

class Template {
 public:
  Template();
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  // Takes `root` apart, which stays as it is. A closure over nodes of the graph or over arrays
  // becomes one over those of the instance. Throws Refusal if the graph holds what cannot be
  // kept: a static attribute of an unknown type, a bound method, a node that was not made in this
  // trace, a list of nodes in two places, an array ref, a hijax variable.
  static Template capture(nb::handle root, const std::vector<nb::object>& shared,
                          const MayShare& may_share, Captured& captured);

  const std::vector<Slot>& slots() const;

  // A new graph in the present trace with one value for each slot.
  nb::object instantiate(const std::vector<nb::object>& values) const;

 private:
  struct Node;
  friend class Capture;
  friend class Instantiation;
  std::vector<Node> nodes_;
  std::vector<Slot> slots_;
};

}  // namespace nnx_wrappers::graph
