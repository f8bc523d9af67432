// Compares a live graph with what it was before some code ran.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>
#include <vector>

#include "graph/guard.h"
#include "graph/template.h"

namespace nnx_wrappers::graph {

// What the objects of a graph hold that may change while they stay the same objects.
class Contents {
 public:
  // Owns the objects, and copies of the containers and numpy arrays among them.
  Contents(const Template& of, const Captured& captured);

  bool are_unchanged() const;

 private:
  struct Copied {
    nb::object original;
    nb::object copy;
  };
  struct Flags {
    nb::object state;  // a PytreeState
    nb::object initializing;
  };
  std::vector<Copied> copied_;  // static attributes
  std::vector<Copied> values_;  // pytrees
  std::vector<Flags> flags_;
  std::shared_ptr<const GuardSet> shared_;  // of functions and of what instances share
};

// True if both were captured of one graph, and if it has the same nodes, attributes and values, by
// identity, in the same places.
bool are_same(const Template& one, const Captured& captured, const Template& other,
              const Captured& other_captured);

}  // namespace nnx_wrappers::graph
