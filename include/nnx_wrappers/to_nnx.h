// ToNNX: a Linen module used as an NNX module that owns its variables.
//
// The class that Python code subclasses and holds is nnx_wrappers.ToNNX, an nnx.Module;
// this is its C++ face. All functions need the GIL and run user code. State lives in the
// Python object, so its thread-safety is that of any nnx.Module: one call at a time on
// one object. Arguments are borrowed for the call, results are owned by the caller.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

namespace nnx_wrappers {

// What a call may be told besides the Linen method's own arguments.
struct ToNNXCall {
  nanobind::object rngs = nanobind::none();      // nnx.Rngs, key, dict of keys, None
  nanobind::object method = nanobind::none();    // Linen method: name, function, None
  nanobind::object mutable_ = nanobind::none();  // Linen's filter; None: from context
};

// Owns a reference to one nnx_wrappers.ToNNX object. A copy is the same object.
class ToNNX {
 public:
  // Wraps an instance of a Linen module. `rngs` is forked if it is an nnx.Rngs.
  // Throws TypeError for a class, an NNX module, or rngs of another kind.
  explicit ToNNX(nanobind::handle linen_module, nanobind::handle rngs = nanobind::none());

  // Takes an object that is an nnx_wrappers.ToNNX already, or of a subclass. Throws
  // TypeError for anything else, Flax's own ToNNX included.
  static ToNNX from(nanobind::handle object);

  // Makes the variables by running the module's `init` on these arguments. A call that
  // fails leaves attributes and RNG counts as they were. Throws ValueError for a Linen
  // variable whose name an NNX attribute cannot have, Flax's InvalidRngError where the
  // module needs a key that there is not, and what the Linen module throws.
  ToNNX& lazy_init(const nanobind::tuple& args, const nanobind::dict& kwargs = nanobind::dict());

  // Runs the Linen module on the variables it owns and keeps what changed. Outside Linen
  // the default `mutable_` is every collection of the module but 'params',
  // 'intermediates' and 'perturbations'; inside it is that of the enclosing scope. A
  // call that fails leaves attributes and RNG counts as they were. Throws what the Linen
  // module throws; with no variables yet, not_initialized_error() with the remedy.
  nanobind::object call(const nanobind::tuple& args,
                        const nanobind::dict& kwargs = nanobind::dict(),
                        const ToNNXCall& options = {}) const;

  // call() with positional arguments: anything that nanobind can cast to Python. Throws
  // std::bad_cast for what it cannot (nanobind/stl/string.h is for std::string, and so on).
  template <typename... Args>
  nanobind::object operator()(Args&&... args) const {
    return call(nanobind::make_tuple(std::forward<Args>(args)...));
  }

  // The variables in Linen's form, {'params': {...}}, boxes included; arrays are shared.
  nanobind::dict variables() const;

  // The Python object.
  const nanobind::object& object() const { return object_; }

 private:
  ToNNX() = default;
  nanobind::object object_;
};

// What a call before lazy_init throws: a subclass of flax.errors'
// ScopeParamNotFoundError and ScopeCollectionNotFound. Borrowed; immortal.
nanobind::handle not_initialized_error();

}  // namespace nnx_wrappers
