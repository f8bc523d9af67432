// ToNNX: a Linen module used as an NNX module that owns its variables.
//
// The class users subclass and hold is Python (nnx_wrappers.ToNNX, an nnx.Module);
// `class ToNNX` below is its C++ face, and the functions of namespace to_nnx are
// the bodies of the Python methods. All need the GIL and run user code. State
// lives in the Python object, so its thread-safety is that of any nnx.Module: one
// call at a time on one object.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// What a call may be told besides the Linen method's own arguments.
struct ToNNXCall {
  nanobind::object rngs = nanobind::none();      // nnx.Rngs, key, dict of keys, None
  nanobind::object method = nanobind::none();    // Linen method: name, function, None
  nanobind::object mutable_ = nanobind::none();  // Linen's filter; None: from context
};

// Owns a reference to one nnx_wrappers.ToNNX object.
class ToNNX {
 public:
  // Wraps an instance of a Linen module. `rngs` is forked if it is an nnx.Rngs.
  // Throws TypeError for a class, an NNX module, or rngs of another kind.
  explicit ToNNX(nanobind::handle linen_module, nanobind::handle rngs = nanobind::none());

  // Takes an object that is a ToNNX already. Throws TypeError if it is none.
  static ToNNX from(nanobind::handle object);

  // Makes the variables by running the module's `init` on these arguments.
  ToNNX& lazy_init(const nanobind::tuple& args, const nanobind::dict& kwargs = nanobind::dict());

  // Runs the Linen module on the variables it owns and keeps what changed.
  nanobind::object call(const nanobind::tuple& args,
                        const nanobind::dict& kwargs = nanobind::dict(),
                        const ToNNXCall& options = {}) const;

  // The variables in Linen's form, {'params': {...}}, boxes included.
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

namespace to_nnx {

// ToNNX.__init__.
void initialize(nanobind::handle self, nanobind::handle linen_module, nanobind::handle rngs);

// ToNNX.__call__. Outside Linen the default `mutable` is every collection that is
// present but 'params'; inside it is that of the enclosing scope. A call that
// fails leaves attributes and RNG counts as they were. Throws what the Linen
// module throws; with no variables yet, ScopeParamNotFoundError with the remedy.
nanobind::object call(nanobind::handle self, const nanobind::tuple& args,
                      const nanobind::dict& kwargs, const ToNNXCall& options);

// The variables of `self` in Linen's form.
nanobind::dict variables(nanobind::handle self);

// A missing attribute: a method of the Linen class bound to this object, else
// AttributeError.
nanobind::object attribute(nanobind::handle self, nanobind::handle name);

// A value as it has to be given to nnx.Module's own setattr: containers that hold
// data are marked as data.
nanobind::object attribute_value(nanobind::handle value);

// Drops the forked RNGs.
void release_rngs(nanobind::handle self);

// The decoder layers among the attributes, in execution order, each once.
nanobind::list get_layers(nanobind::handle self);

}  // namespace to_nnx

}  // namespace nnx_wrappers
