// Whose code and whose objects: the user's, those of the standard library, or those of Flax, JAX,
// numpy and this library, which are taken as constant. Told by the names of their modules.
#pragma once

#include <nanobind/nanobind.h>

#include <string_view>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

enum class Origin {
  kUser,
  kStandard,
  kLibrary,
  kBeside  // logging, importing, measuring: whatever they run is no part of the program
};

// `name`: of a module, with dots.
Origin origin_of_module(std::string_view name);

// The name of the module of a class, and a text of Python without a copy; empty if it is none.
std::string_view module_of_class(nb::handle type);
std::string_view text_of(nb::handle name);

// The part of a name before its first dot.
std::string_view root_of(std::string_view module);

// By the `__name__` of a function's globals.
Origin origin_of_globals(nb::handle globals);

// By the `__module__` of a class; runs no code of a metaclass.
Origin origin_of_class(nb::handle type);

// True for the class of objects that are what they are for good, or that are known by who they
// are alone: those of JAX and numpy (arrays of numpy apart), members of enums, loggers, locks,
// patterns, paths, dates.
bool is_opaque_class(nb::handle type);

// True for the constructors of the errors by which JAX says that a value is not concrete.
bool is_about_a_tracer(nb::handle code, nb::handle globals);

// True for generators of numpy: what they draw cannot be seen.
bool is_random_generator(nb::handle type);

// What an object of such a class holds that is a function of the user's: what jax.jit and the
// like have wrapped.
bool wraps_functions(nb::handle type);

// What a name says of a module of random numbers without a state that could be compared, such as
// numpy.random.default_rng.
bool is_source_of_randomness(std::string_view module, nb::handle name);

// The state of numpy's global generator, to compare; an empty text where there is none yet.
nb::object numpy_random_state();

}  // namespace nnx_wrappers::upstream
