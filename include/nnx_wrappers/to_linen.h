// ToLinen: an NNX class used as a Linen module with init, apply and collections.
//
// The class that Python code subclasses is nnx_wrappers.ToLinen, a flax.linen.Module; this
// is its C++ face. All functions need the GIL and run user code. A Linen module is
// immutable; calls on one object may run in several threads. Arguments are borrowed for
// the call, results are owned by the caller.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>

namespace nnx_wrappers {

// What ToLinen's dataclass fields say; the defaults are the Python class's.
struct ToLinenOptions {
  bool skip_rng = false;         // the class takes no `rngs`
  nanobind::object metadata_fn;  // Variable -> leaf; invalid: to_linen_var; None: raw values
  nanobind::object augment_fn = nanobind::none();  // (module, name) -> module, before loading
  nanobind::object name = nanobind::none();
};

// Owns a reference to one nnx_wrappers.ToLinen object. A copy is the same object.
//
// Calls throw TypeError or AttributeError for a method that the class does not have,
// ValueError for variables that contradict each other or the module, and what the NNX
// module throws. Variables whose path the module does not have are a UserWarning.
class ToLinen {
 public:
  // Wraps an NNX class (or another callable that makes an NNX module). Throws
  // TypeError for an instance.
  explicit ToLinen(nanobind::handle nnx_class, const nanobind::tuple& args = nanobind::tuple(),
                   const nanobind::dict& kwargs = nanobind::dict(),
                   const ToLinenOptions& options = {});

  // Takes an object that is an nnx_wrappers.ToLinen already, or of a subclass (such as
  // those that to_linen_class makes). Throws TypeError for anything else, Flax's own
  // ToLinen included.
  static ToLinen from(nanobind::handle object);

  // linen.Module.init(rngs, *args, **kwargs): the variables. `rngs` is a key or a dict of
  // keys; `kwargs` may hold mutable and nnx_method as in Python.
  nanobind::object init(nanobind::handle rngs, const nanobind::tuple& args,
                        const nanobind::dict& kwargs = nanobind::dict()) const;

  // linen.Module.init_with_output(rngs, *args, **kwargs): (output, variables).
  nanobind::tuple init_with_output(nanobind::handle rngs, const nanobind::tuple& args,
                                   const nanobind::dict& kwargs = nanobind::dict()) const;

  // linen.Module.apply(variables, *args, **kwargs): the output, or (output, updates) where
  // `mutable` is given; `kwargs` may hold rngs, mutable and nnx_method as in Python.
  nanobind::object apply(nanobind::handle variables, const nanobind::tuple& args,
                         const nanobind::dict& kwargs = nanobind::dict()) const;

  // apply() with positional arguments: anything that nanobind can cast to Python. Throws
  // std::bad_cast for what it cannot (nanobind/stl/string.h is for std::string, and so on).
  template <typename... Args>
  nanobind::object operator()(nanobind::handle variables, Args&&... args) const {
    return apply(variables, nanobind::make_tuple(std::forward<Args>(args)...));
  }

  // The Python object.
  const nanobind::object& object() const { return object_; }

 private:
  ToLinen() = default;
  nanobind::object object_;
};

}  // namespace nnx_wrappers
