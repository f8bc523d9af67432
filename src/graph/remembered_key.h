// The key of an object that is mostly the same one from call to call, such as the rules of the
// logical axes.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// A short key: it equals that of another object only if their static keys are equal, unknown
// objects taken by identity. Invalid if the object has none. The last one is remembered while the
// object is the same, and so is each element of the lists and tuples in it.
nb::object remembered_key(nb::handle object);

}  // namespace nnx_wrappers::graph
