// Objects of Flax and JAX by their places. Versions keep the same object in different places, so an
// object is looked for in all of them, in order.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <string>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// Throws ImportError, with the installed versions, if Flax cannot be imported: it refuses to be
// with a JAX that it does not fit. That is what has to be said then, and not that a name is
// missing.
void require_flax();

// The object at "module.submodule:attribute.attribute", or an invalid one where a step of that is
// missing. May import modules.
nb::object find(const std::string& place);

// The object in the first place that has one, which lives from now on as long as the interpreter.
// Null if no place has it.
nb::handle look_for(std::initializer_list<const char*> places);

// As look_for; if no place has the object, a class that no object is an instance of.
nb::handle look_for_class(std::initializer_list<const char*> places);

// As look_for; throws ImportError, with the installed versions, if no place has the object.
nb::handle look_up(std::initializer_list<const char*> places);
nb::handle look_up(const char* place);

// The ImportError for an object that no place has.
[[noreturn]] void raise_missing(const char* place);

// A class that no object is an instance of, for one that this version does not have. Immortal.
nb::handle class_of_nothing();

// True if the function has a parameter of this name, which some versions lack.
bool takes_argument(nb::handle function, const char* name);

// The installed version of a package, or "(not installed)".
std::string version_of(const char* package);

}  // namespace nnx_wrappers::upstream
