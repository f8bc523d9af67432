// Static attributes that a Template may keep.
#pragma once

#include <nanobind/nanobind.h>

#include <unordered_map>
#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

enum class StaticPolicy {
  kShare,  // immutable: every instance holds the same object
  kCopy,   // a list, dict or set of such: every instance holds a copy
  kRefuse  // unknown, or bound to this one graph
};

// How `value` can be kept. `shared` are objects to share whatever they are.
StaticPolicy policy_of(nb::handle value, const std::vector<nb::object>& shared);

// How what a function has besides its code and its cells can be kept, all together: defaults
// and attributes.
StaticPolicy policy_of_extras(nb::handle function, const std::vector<nb::object>& shared);

// Copies of values that are kept by copying: containers anew, contents shared. A container that
// stands in several places has one copy, so one of these is used for a whole graph.
class StaticCopies {
 public:
  nb::object copy(nb::handle value);

 private:
  struct Copied {
    nb::object original;  // held: its address stays its own
    nb::object copy;
  };
  std::unordered_map<PyObject*, Copied> known_;
};

}  // namespace nnx_wrappers::graph
