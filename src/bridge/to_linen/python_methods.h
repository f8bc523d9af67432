// The bodies of the methods of the Python class nnx_wrappers.ToLinen, and of the classes
// that to_linen_class makes. All need the GIL and run user code; `self` is borrowed.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge::to_linen {

// ToLinen.__post_init__'s check of the field nnx_class. Throws TypeError.
void check_class(nanobind::handle nnx_class);

// True if Linen need not look at the value of a field when it binds `self`: it is there
// already, with no Linen module to adopt in it and no container to freeze.
bool is_inert(nanobind::handle self, nanobind::handle name, nanobind::handle value);

// What ToLinen.clone hands to Linen as _deep_clone: `asked`, or False where no field
// and no update has a Linen module in it.
nanobind::object deep_clone(nanobind::handle self, nanobind::handle asked,
                            const nanobind::dict& updates);

// ToLinen.__call__: makes the NNX module, loads the variables of the scope into it,
// runs the method and stores what the mutable collections of the scope take.
// Throws TypeError/AttributeError for a method that the class does not have,
// ValueError for variables that contradict each other; warns for variables whose
// path the module does not have, and builds the modules that are missing.
nanobind::object call(nanobind::handle self, nanobind::handle nnx_method,
                      const nanobind::tuple& args, const nanobind::dict& kwargs);

// A missing attribute: an entry of the field kwargs, or a method of the NNX class
// bound to this object; an invalid object if it is neither.
nanobind::object attribute(nanobind::handle self, nanobind::handle name);

// Stores the state of an NNX module into the mutable collections of the scope.
void update_variables(nanobind::handle self, nanobind::handle nnx_module);

// The keyword arguments of ToLinen.__init__ for a class that to_linen_class made:
// what the caller gave (None: not given) over what the class fixed.
nanobind::dict partial_fields(const nanobind::dict& fixed, const nanobind::dict& given);

// The name of the class that to_linen_class makes: "<Name>ToLinen".
nanobind::str class_name(nanobind::handle nnx_class);

// A stream of the Rngs that ToLinen gives to a constructor in `init`: the stream
// itself, 'default', or (Linen's own rule) 'params'. Throws `error_type`.
nanobind::object stream(nanobind::handle rngs, nanobind::handle name, nanobind::handle error_type);

}  // namespace nnx_wrappers::bridge::to_linen
