// The initializing flags of NNX modules, raised for a scope.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::bridge {

// Raises the initializing flag of the given Pytrees; the destructor lowers it for them.
class Initializing {
 public:
  Initializing(nanobind::handle root, std::vector<nanobind::object> pytrees);
  ~Initializing();
  Initializing(const Initializing&) = delete;
  Initializing& operator=(const Initializing&) = delete;

  // Lowers the flags now, also of every other Pytree that was put under `root` meanwhile;
  // throws where the destructor would have to be silent.
  void finish();

 private:
  void lower();

  nanobind::object root_;
  std::vector<nanobind::object> pytrees_;
  bool finished_ = false;
};

}  // namespace nnx_wrappers::bridge
