// What Qwix needs of an NNX module that runs inside a Linen module: the path of the
// submodule that runs, as the path of the Linen module.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::bridge {

// While one of these lives, each nnx.Module below `root` is of a subclass of its class, whose
// `__call__` adds the last key of the module's path to Linen's path while it runs, and
// which marks as data what is set under names that begin with `dot_general`. The classes
// are made once for each class and key (`Caches::qwix_classes`).
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
