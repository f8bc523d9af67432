// Short keys for long ones, which take long to hash.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// What no tuple of a user can hold, so that no tuple looks like a key of another kind.
nb::handle mark();

// A short key that equals another only if the long ones are equal; invalid for an invalid key.
// Runs code that hashes and compares keys.
nb::object interned(const nb::object& key);

// Forgets all of them. What was a short key equals no later one.
void forget_interned();

}  // namespace nnx_wrappers::upstream
