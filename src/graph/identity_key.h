// Keys of objects by identity.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// A weak reference, or an invalid object if the type does not support them.
nb::object weak_reference(nb::handle object);

// A hashable object that stands for this one and does not keep it alive: the same one whenever it
// is asked for, and never that of another object. A weak reference would not do, since it is equal
// to that of an equal object: jax.numpy.float32 == numpy.float32. An invalid object if the type
// does not support weak references. Runs no code of the object.
nb::object identity_key(nb::handle object);

// Forgets all of them: later ones are others. They die with the object that it returns.
std::shared_ptr<const void> take_identity_keys();

}  // namespace nnx_wrappers::graph
