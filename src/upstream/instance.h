// Makes objects of NNX without running their constructors, as nnx.merge does.
#pragma once

#include <nanobind/nanobind.h>

#include "py/containers.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// Sets an attribute past the class's own __setattr__. A name may be a number: that of an element of
// an nnx.List before Flax 0.12.4.
void set_attribute(nb::handle object, nb::handle name, nb::handle value);

// A PytreeState of this trace with the flags of the PytreeState `source`.
nb::object new_pytree_state(nb::handle source, nb::handle trace_state);

// A Variable of this trace, no hijax variable. It keeps the dict `metadata` itself.
nb::object new_plain_variable(nb::handle type, nb::handle value, const nb::dict& metadata,
                              nb::handle trace_state);

// A node as Flax's implementation for its type, which may call the user's functions, flattens it.
struct Flattened {
  nb::object impl;
  std::vector<py::Item> items;  // all (key, value) pairs, static ones included
  nb::object metadata;
};
Flattened flatten_by_flax(nb::handle node);

// The part of the metadata of a flattened node that may hold other objects than the keys and types
// of its children: the auxiliary data of a type that is registered with JAX, else all of it.
nb::object auxiliary_data(nb::handle metadata);

// The functions of an implementation: a node from its pairs, or an empty node that is filled later.
nb::object unflatten(nb::handle impl, nb::handle pairs, nb::handle metadata);
nb::object create_empty(nb::handle impl, nb::handle metadata);
void fill(nb::handle impl, nb::handle node, nb::handle pairs);

}  // namespace nnx_wrappers::upstream
