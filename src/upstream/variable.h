// nnx.Variable, typed: tests, value, metadata, and the registry of collections.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// isinstance(object, nnx.Variable); hijax variables and their tracers count.
bool is_variable(nb::handle object);

// True if it is a Variable itself, no hijax variable.
bool is_plain_variable(nb::handle object);

// True for a Variable that is a value and its type: no hooks, no array ref, no hijax.
bool is_bare_variable(nb::handle object);

// The Variable class; for a hijax variable the class it stands for.
nb::object variable_type(nb::handle variable);

// The value as stored: no get hook runs, an array ref is read, the containers of
// a pytree are copied (as Variable.get_value does), arrays are not.
nb::object stored_value(nb::handle variable);

// The value as stored, an array ref kept as the ref.
nb::object raw_value(nb::handle variable);

// True if the class of the Variable has a `get_value` of its own.
bool reads_by_itself(nb::handle variable);

// Stores `value` past the trace check and past set hooks; writes into an array
// ref where the variable holds one and `value` is an array.
void store_value(nb::handle variable, nb::handle value);

// Puts back a raw value and metadata that the Variable had, past every check, and keeps the
// identity of its metadata. What they replace goes to `dying`: its destructors may run code.
void restore_variable(nb::handle variable, nb::handle raw_value, nb::handle metadata,
                      std::vector<nb::object>& dying);

// A copy of the metadata, the three required entries included.
nb::dict metadata(nb::handle variable);

// The metadata, to be read only: the Variable's own dict where it has one.
nb::dict metadata_view(nb::handle variable);

// The metadata as Flax's bridge of the installed version puts it into a box.
nb::dict box_metadata(nb::handle variable);

// True for the metadata entries that every Variable has (hijax, ref, eager_sharding; older
// versions have others).
bool is_required_metadata(nb::handle name);

// isinstance on the type: a subclass of nnx.RngState.
bool is_rng_state(nb::handle variable);

// The Variable type registered for a collection; makes and registers one for a
// new name, as Flax does. `collection` must be a str.
nb::object type_for_collection(nb::handle collection);

// The collection name registered for a Variable type, or an invalid object.
nb::object collection_of(nb::handle type);

// As collection_of; a new type is registered under its own name. Throws
// ValueError naming `where` if another type holds that name.
nb::object collection_of_or_register(nb::handle type, const std::string& where);

// True where a call may have to convert by Flax's own constructor because the
// class has an __init__ of its own.
bool has_own_init(nb::handle type);

// True if such a Variable is nothing but its value, its metadata and its trace state:
// no hijax variable, no array ref, no from_metadata of the class's own.
bool is_made_of_parts(nb::handle type, const nb::dict& metadata);

// A Variable of `type` with exactly this value and metadata: no create hook, no
// sharding. `metadata` must hold hijax, ref and eager_sharding.
nb::object new_variable(nb::handle type, nb::handle value, const nb::dict& metadata);

// Flax's present defaults for the required entries, added where missing.
void add_required_metadata(nb::dict& metadata);

// What decides how Flax makes a Variable now: (eager sharding, hijax, ref), each as it stands.
nb::tuple creation_settings();

}  // namespace nnx_wrappers::upstream
