// nnx.Variable: its type, value and metadata, and the registry of collection names.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// `isinstance(object, nnx.Variable)`: hijax variables and their tracers included.
bool is_variable(nb::handle object);

// True for a Variable that is no hijax variable.
bool is_plain_variable(nb::handle object);

// True for a Variable that is no hijax variable, holds no array ref, and has no hooks.
bool is_bare_variable(nb::handle object);

// The class of a Variable; for a hijax variable the class that it stands for.
nb::object variable_type(nb::handle variable);

// The stored value: no get hook runs, and an array ref is read. As in Variable.get_value, the
// containers of a pytree are copied and its arrays are shared.
nb::object stored_value(nb::handle variable);

// The stored value itself; an array ref is not read.
nb::object raw_value(nb::handle variable);

// What the user sees: the stored value, or what the get hook or the `get_value` of a subclass makes
// of it. `metadata` are those of the Variable.
nb::object shown_value(nb::handle variable, const nb::dict& metadata);

// The Variable that its class makes of value and metadata, or an invalid object: only up to Flax
// 0.12.0 does Flax's bridge make Variables so.
nb::object made_by_class(nb::handle type, nb::handle value, const nb::dict& metadata);

// Stores `value` without a check of the trace and without set hooks. If the Variable holds an array
// ref and `value` is an array, it is written into the ref.
void store_value(nb::handle variable, nb::handle value);

// Puts back a raw value and metadata that the Variable had, without any check. Its dict of metadata
// stays the same object. What they replace is moved to `dying`, since destructors may run user
// code.
void restore_variable(nb::handle variable, nb::handle raw_value, nb::handle metadata,
                      std::vector<nb::object>& dying);

// A copy of the metadata, required entries included.
nb::dict metadata(nb::handle variable);

// The metadata without a copy, where the Variable has a dict of them. Not to be changed.
nb::dict metadata_view(nb::handle variable);

// The metadata that the installed Flax's own bridge puts into a box.
nb::dict box_metadata(nb::handle variable);

// True for the metadata entries that every Variable has: hijax, ref and eager_sharding. Older
// versions have others.
bool is_required_metadata(nb::handle name);

// True for a Variable of RNG state: its type is a subclass of nnx.RngState.
bool is_rng_state(nb::handle variable);

// The Variable type of a collection, whose name must be a str. A type is made and registered for a
// new name, as Flax does it.
nb::object type_for_collection(nb::handle collection);

// The name of the collection that a Variable type is registered for, or an invalid object.
nb::object collection_of(nb::handle type);

// The same; a new type is registered under its own name. Throws ValueError, which begins with
// `where`, if another type has that name.
nb::object collection_of_or_register(nb::handle type, const std::string& where);

// True if the class of Variables overrides `__init__`.
bool overrides_init(nb::handle type);

// True if a Variable of this class with this metadata is made of its value, its metadata and its
// trace state alone: no hijax variable, no array ref, and no class that overrides from_metadata.
bool has_standard_layout(nb::handle type, const nb::dict& metadata);

// A Variable of `type` with this value and metadata: no create hook runs, and nothing is sharded.
// `metadata` must hold the required entries.
nb::object new_variable(nb::handle type, nb::handle value, const nb::dict& metadata);

// Adds the required entries that are missing, with Flax's current defaults.
void add_required_metadata(nb::dict& metadata);

// What decides how Flax makes a Variable now: (eager sharding, hijax, ref), each as it stands.
nb::tuple creation_settings();

}  // namespace nnx_wrappers::upstream
