// Linen's dynamic context and scopes, and the context of flax.nnx.bridge.module.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::flax {

namespace nb = nanobind;

// The innermost Linen module running in this thread, or None.
nb::object innermost_linen_module();

// The innermost flax.nnx.bridge.Module running in this thread, or None.
nb::object innermost_bridge_module();

// True if `module` is a bound Linen module in `init`.
bool is_initializing(nb::handle linen_module);

// The same, asked of the scope.
bool is_initializing_scope(nb::handle scope);

// The `mutable` filter of the context that encloses a call: the bridge module's
// scope, else the Linen module's scope, else an invalid object.
nb::object enclosing_mutable();

// True if the bound Linen module has adopted a submodule of this name.
bool has_submodule(nb::handle linen_module, nb::handle name);

// The dict of streams of a scope as it stands: a scope of ToNNX draws no key for it.
nb::object undrawn_rngs(nb::handle scope);

// The type of a stream's keys in a scope: (shape, dtype). Draws no key.
nb::object key_type(nb::handle scope, nb::handle stream);

// scope.make_rng(stream): the next key of a stream that the scope has.
nb::object draw_key(nb::handle scope, nb::handle stream);

// As draw_key, but the key is not computed: only the counter advances.
void skip_key(nb::handle scope, nb::handle stream);

// No Linen module is current in this thread while one of these lives.
class NoLinenModule {
 public:
  NoLinenModule();
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
bool is_axis_metadata(nb::handle object);

// True for a level of a tree of Linen variables: a dict or a FrozenDict. Every other
// mapping is a value, as in Flax.
bool is_level(nb::handle object);

// The dict behind a level that is exactly a dict or a FrozenDict, to be read only; an
// invalid object for everything else.
nb::object level_dict(nb::handle level);

// A FrozenDict (at any depth) made a plain dict; other objects as they are.
nb::object unfreeze(nb::handle tree);

}  // namespace nnx_wrappers::flax
