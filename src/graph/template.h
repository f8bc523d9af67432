// A module graph without its values. It is captured once from a live graph, and instantiated any
// number of times.
//
// A Template owns types, metadata and static attributes, but no tracer, no live node and no
// Variable, so it may outlive the trace that it was captured in. Instances share no mutable object
// unless capture was told to share it.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "graph/path.h"
#include "graph/static_value.h"
#include "py/identity_set.h"
#include "upstream/node.h"

namespace nnx_wrappers::graph {

// The reason why a graph cannot be kept as a Template: an object, and its path.
class Refusal : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The place of one value: of a Variable, or of a leaf that is no Variable.
struct Slot {
  Path path;
  nb::object type;         // of the Variable; invalid for other leaves
  nb::object constant;     // the captured value, if it holds no tracer; else invalid
  bool is_in_closure;      // a closure holds it, so it is no part of the module's state
  bool is_shared = false;  // all instances have the constant itself, and not a copy
};

// How instances get a value of the captured graph whose type is mutable or unknown.
enum class Kept {
  kNot,     // the graph cannot be kept
  kItself,  // they share it
  kMoved    // it is a Linen module: each has a copy inside the Linen module that runs it
};

// `owner` and `name` of the attribute are invalid for the value of a slot, which is not moved.
using HowKept = std::function<Kept(nb::handle owner, nb::handle name, nb::handle value)>;

// The values and modules that a capture took out of the graph.
struct Captured {
  std::vector<nb::object> values;   // of the slots, in order; each may be a pytree
  std::vector<nb::object> pytrees;  // every nnx.Pytree of the graph
  std::vector<nb::object> nodes;    // whatever has an identity, also what closures hold
};

class Template {
 public:
  struct Node;

  Template();
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  // Captures the graph of `root`, which is not changed. A closure over nodes of the graph or over
  // arrays becomes a closure over those of the instance. Instances share the objects `shared`
  // whatever their types, and keep others as `how_kept` says. Throws Refusal if the graph
  // holds something that cannot be kept: a static attribute of an unknown type, a bound method, a
  // node of another trace, a list of nodes in two places, an array ref, a hijax variable. Then too
  // `captured` has what was taken out so far. The nodes `given` are not captured: instances have
  // others in their place.
  static Template capture(nb::handle root, const Shared& shared, const HowKept& how_kept,
                          Captured& captured, const std::vector<nb::object>& given = {});

  // Copies what instances have copies of, since the captured graph goes on to be used: after that,
  // a change of it is no change of the template.
  void detach();

  const std::vector<Slot>& slots() const;

  // True if a Linen module is moved into each graph.
  bool moves_linen_modules() const;

  // A new graph of the current trace, with one value for each slot, and one node for each that was
  // given.
  nb::object instantiate(const std::vector<nb::object>& values,
                         const std::vector<nb::object>& given = {}) const;

 private:
  friend class Capture;
  friend class Contents;
  friend bool are_same(const Template& one, const Captured& captured, const Template& other,
                       const Captured& other_captured);
  friend class Instantiation;
  std::vector<Node> nodes_;
  std::vector<Slot> slots_;
  py::IdentitySet kept_;  // inside of copied attributes, what is not copied
};

}  // namespace nnx_wrappers::graph
