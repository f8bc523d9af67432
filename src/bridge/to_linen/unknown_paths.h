// Paths that the variables given to ToLinen.apply have, and the state of the module has not.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <vector>

#include "graph/path.h"

namespace nnx_wrappers::bridge {

class UnknownPaths {
 public:
  // Borrows the module.
  explicit UnknownPaths(nanobind::handle nnx_module) : module_(nnx_module) {}

  // Puts the value where the module has a traced array: NNX takes that for a static attribute
  // unless it is marked by nnx.data, and out of a trace for state. Notes any other path.
  // `choose` is given the array that is there and returns the value for it.
  void add(const graph::Path& path,
           const std::function<nanobind::object(nanobind::handle current)>& choose);

  // Warns about the paths that were noted, and makes the modules on the way to them. Their
  // values are not used. ValueError if something else is on the way.
  void build() const;

 private:
  nanobind::handle module_;
  std::vector<graph::Path> noted_;
};

}  // namespace nnx_wrappers::bridge
