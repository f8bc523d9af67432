// The flags that every nnx.Pytree carries in an object of its own.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// True for the name of the attribute that holds them, interned.
bool is_pytree_state_name(nb::handle name);

// The object with the flags of a Pytree, or an invalid object before its constructor.
nb::object pytree_state(nb::handle pytree);

// True while lazy_init runs in the Pytree.
bool is_initializing_pytree(nb::handle pytree);

// The flag that says so, as it is stored.
nb::object initializing_flag(nb::handle state);
void set_initializing_flag(nb::handle state, nb::handle flag);

// The keywords with which a subclass of this class has to be defined to be a pytree as it is.
nb::dict subclass_keywords(nb::handle pytree_class);

}  // namespace nnx_wrappers::upstream
