// Linen's stack of the modules whose methods run, and the scopes that lifted transformations make.
//
// `nn.scan`, `nn.remat` and the others run a module in a scope that they make themselves, of Flax's
// class whatever the class of the outer scope is. But each module comes onto the stack before any
// of its own code runs, `setup` included, and there its scope can be made one of the outer class.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// While it lives, Linen puts the modules that run in this thread into `stack`, a list, which gets
// those that run already.
class ModuleStack {
 public:
  explicit ModuleStack(const nb::list& stack);
  ~ModuleStack();
  ModuleStack(const ModuleStack&) = delete;
  ModuleStack& operator=(const ModuleStack&) = delete;

 private:
  nb::object before_;
};

// True if `scope` is below `root`, or at its place, also where a lifted transformation has made it.
bool counts_below(nb::handle scope, nb::handle root);

// If the scope of this Linen module is one of Flax's that a lifted transformation has made below
// `root`, it becomes one of the class of `root`. `module` may be None.
void adopt_scope_of(nb::handle module, nb::handle root);

}  // namespace nnx_wrappers::upstream
