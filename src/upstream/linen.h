// Linen's dynamic context and modules, and the context of flax.nnx.bridge.module.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The innermost Linen module running in this thread, or None.
nb::object innermost_linen_module();

// The innermost flax.nnx.bridge.Module running in this thread, or None.
nb::object innermost_bridge_module();

// True for names by which copy and pickle ask an object for methods of its own.
bool is_for_copies(nb::handle name);

// True if `module` is a bound Linen module in `init`.
bool is_initializing(nb::handle linen_module);

// The `mutable` filter of the context that encloses a call: the bridge module's
// scope, else the Linen module's scope, else an invalid object.
nb::object enclosing_mutable();

// True if the bound Linen module has adopted a submodule of this name.
bool has_submodule(nb::handle linen_module, nb::handle name);

// No Linen module is current in this thread while one of these lives. `stand_in` is what
// Linen sees in its place: None, or an object that makes it fail.
class NoLinenModule {
 public:
  explicit NoLinenModule(nb::handle stand_in = nb::none());
  ~NoLinenModule();
  NoLinenModule(const NoLinenModule&) = delete;
  NoLinenModule& operator=(const NoLinenModule&) = delete;

 private:
  nb::list stack_;
};

// True if Linen has nothing to do with a field of this value when it clones or binds a
// module: no Linen module to adopt in it, and no container to freeze. False where
// that would take long to tell.
bool is_inert(nb::handle value);

bool is_linen_module(nb::handle object);

// Raises Flax's own error for a Linen module whose class has a constructor that does not call
// Linen's.
void check_module(nb::handle linen_module);

bool is_axis_metadata(nb::handle object);

// True for a level of a tree of Linen variables: a dict or a FrozenDict. Every other
// mapping is a value, as in Flax.
bool is_level(nb::handle object);

// The dict behind a level that is exactly a dict or a FrozenDict, to be read only; an
// invalid object for everything else.
nb::object level_dict(nb::handle level);

// A FrozenDict (at any depth) made a plain dict; other objects as they are.
nb::object unfreeze(nb::handle tree);

// A leaf of Linen's variables without its box, or, if it is a pytree, those inside it.
nb::object unboxed(nb::handle leaf);

}  // namespace nnx_wrappers::upstream
