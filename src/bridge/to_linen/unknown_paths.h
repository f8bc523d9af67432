// Paths of the variables given to ToLinen.apply that the state of the module does not have.
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

  // Sets the value if the module has a traced array at the path: for NNX an array is state, but a
  // tracer that is not marked by nnx.data is a static attribute. `choose` returns the value for the
  // current array. Every other path is noted.
  void add(const graph::Path& path,
           const std::function<nanobind::object(nanobind::handle current)>& choose);

  // Makes the missing modules on the way to the noted paths, and warns about these paths, whose
  // values are not used. Throws ValueError if an object that is no module is on the way.
  void build() const;

 private:
  nanobind::handle module_;
  std::vector<graph::Path> noted_;
};

}  // namespace nnx_wrappers::bridge
