// The variables that a Linen module has, found by an abstract `init`: for error messages, and for
// arrays that the user has put in the place of Variables.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>
#include <string>
#include <vector>

#include "graph/path.h"

namespace nnx_wrappers::bridge {

class LinenLayout {
 public:
  struct Entry {
    nanobind::object collection;
    graph::Path path;
    nanobind::object shape;  // invalid for a pytree
    nanobind::object dtype;
  };

  // Traces `init` with these arguments: nothing is computed, and no state changes. The layout is
  // empty if that fails, for example because the arguments are for another method.
  static LinenLayout of(nanobind::handle linen_module, nanobind::handle method,
                        const nanobind::tuple& args, const nanobind::dict& kwargs);

  const std::vector<Entry>& entries() const { return entries_; }

  // The variable at this path, in whichever collection, or null.
  const Entry* find(const graph::Path& path) const;

 private:
  std::vector<Entry> entries_;
};

// "batch_stats/norm/mean".
std::string to_string(const LinenLayout::Entry& entry);

}  // namespace nnx_wrappers::bridge
