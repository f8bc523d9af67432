// Making objects of NNX without their constructors, as nnx.merge does.
#pragma once

#include <nanobind/nanobind.h>

#include "py/containers.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// object.__new__(type).
nb::object new_empty(nb::handle type);

// object.__setattr__(object, name, value): past the class's own __setattr__.
void set_raw(nb::handle object, nb::handle name, nb::handle value);

// A PytreeState of the given trace with the flags of another.
nb::object new_pytree_state(nb::handle flags_of, nb::handle trace_state);

// A Variable of the given trace. `metadata` becomes its own.
nb::object new_plain_variable(nb::handle type, nb::handle value, const nb::dict& metadata,
                              nb::handle trace_state);

// A node of a type whose flatten and unflatten are Flax's (or the user's).
struct Flattened {
  nb::object impl;
  std::vector<py::Item> items;  // key and value, every one
  nb::object metadata;
};
Flattened flatten_by_flax(nb::handle node);
// What these metadata hold besides the keys and types of children: the auxiliary data of a
// type that is registered with JAX, else the metadata themselves.
nb::object auxiliary_data(nb::handle metadata);
nb::object unflatten(nb::handle impl, nb::handle pairs, nb::handle metadata);
nb::object create_empty(nb::handle impl, nb::handle metadata);
void fill(nb::handle impl, nb::handle node, nb::handle pairs);

}  // namespace nnx_wrappers::upstream
