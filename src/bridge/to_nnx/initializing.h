// Raises the initializing flags of NNX modules for a scope in C++.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::bridge {

// Raises the initializing flags of these Pytrees; the destructor lowers them.
class Initializing {
 public:
  Initializing(nanobind::handle root, std::vector<nanobind::object> pytrees);
  ~Initializing();
  Initializing(const Initializing&) = delete;
  Initializing& operator=(const Initializing&) = delete;

  // Lowers the flags now, and those of Pytrees that have become part of the graph of `root`
  // meanwhile. Throws if that fails, which the destructor cannot do.
  void finish();

 private:
  void lower();

  nanobind::object root_;
  std::vector<nanobind::object> pytrees_;
  bool finished_ = false;
};

}  // namespace nnx_wrappers::bridge
