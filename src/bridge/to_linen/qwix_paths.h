// Gives Qwix the path of the NNX submodule that runs inside a Linen module, as the path of the
// Linen module.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::bridge {

// While it lives, each nnx.Module below `root` is of a subclass of its class. The subclass appends
// the last key of the module's path to Linen's path while `__call__` runs, and marks attributes
// whose names begin with `dot_general` as data. Subclasses are kept in the ClassCache.
class QwixPaths {
 public:
  explicit QwixPaths(nanobind::handle root);
  ~QwixPaths();
  QwixPaths(const QwixPaths&) = delete;
  QwixPaths& operator=(const QwixPaths&) = delete;

 private:
  struct Changed {
    nanobind::object module;
    nanobind::object before;
    nanobind::object during;
  };
  void restore();
  std::vector<Changed> changed_;
};

}  // namespace nnx_wrappers::bridge
