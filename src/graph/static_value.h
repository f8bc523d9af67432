// Static attributes that a Template may keep.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

enum class Keeping {
  kShare,  // immutable: every instance holds the same object
  kCopy,   // a list, dict or set of such: every instance holds a copy
  kRefuse  // unknown, or bound to this one graph
};

// How `value` can be kept. `shared` are objects to share whatever they are.
Keeping keeping_of(nb::handle value, const std::vector<nb::object>& shared);

// A copy for a value that is kept by copying: containers anew, contents shared.
nb::object copy_static(nb::handle value);

}  // namespace nnx_wrappers::graph
