// Variables up to Flax 0.12.0, and nnx.VariableState, which stands for a Variable in the states of
// Flax before 0.11. Both are read by their attributes, since they have no methods for it.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::upstream::older {

namespace nb = nanobind;

// True for an nnx.VariableState.
bool is_variable_state(nb::handle object);

// The value as it is stored, past the get hooks.
nb::object raw_value(nb::handle variable);
void set_raw_value(nb::handle variable, nb::handle value);

// True if the metadata have a get hook, which changes what the user sees of the value.
bool has_get_hook(const nb::dict& metadata);

// The metadata, in a dict of their own.
nb::dict metadata(nb::handle variable);

// Puts value and metadata back. What they replace goes to `dying`, so that no finalizer runs while
// the Variable is half restored.
void restore(nb::handle variable, nb::handle raw_value, nb::handle metadata,
             std::vector<nb::object>& dying);

// A Variable made by its class, as Flax's bridge does. The value stays what it is, also where
// create hooks would change it: it has been created before.
nb::object make(nb::handle type, nb::handle value, const nb::dict& metadata);

// The Variable type of a collection, made if there is none.
nb::object make_type(nb::handle collection);

}  // namespace nnx_wrappers::upstream::older
