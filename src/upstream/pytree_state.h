// The PytreeState of an nnx.Pytree: an object with Flax's flags, stored as an attribute.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// True for the name of that attribute, which must be interned.
bool is_pytree_state_name(nb::handle name);

// The PytreeState of a Pytree, or an invalid object before its constructor has run.
nb::object pytree_state(nb::handle pytree);

// True while lazy_init runs the Pytree.
bool is_initializing_pytree(nb::handle pytree);

// The initializing flag of a PytreeState.
nb::object initializing_flag(nb::handle state);
void set_initializing_flag(nb::handle state, nb::handle flag);

// The class keywords that make a subclass a pytree if `pytree_class` is one, and no pytree if not.
nb::dict subclass_keywords(nb::handle pytree_class);

}  // namespace nnx_wrappers::upstream
