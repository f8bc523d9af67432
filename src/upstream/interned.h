// Short keys that stand for long ones, which take long to hash.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// An object that only keys hold, so that no tuple of the user's equals a key.
nb::handle sentinel();

// The short key of a long one; an invalid object for an invalid one. Two short keys are equal only
// if the long ones are. Runs user code (`__hash__`, `__eq__`).
nb::object interned(const nb::object& key);

// Forgets all short keys. No later one equals one that was forgotten.
void forget_interned();

}  // namespace nnx_wrappers::upstream
