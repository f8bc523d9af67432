// Whose code or object something is, by the name of its module: the user's, the standard library's,
// or that of Flax, JAX, numpy and this library, which are taken as constant.
#pragma once

#include <nanobind/nanobind.h>

#include <string_view>
#include <vector>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

enum class Origin {
  kUser,
  kStandard,
  kLibrary,
  kTooling  // logging, importing, measuring: nothing that they run is part of the program
};

// By the full name of a module.
Origin origin_of_module(std::string_view name);

// The name of the module of a class. Valid while the class lives.
std::string_view module_of_class(nb::handle type);

// The text of a str without a copy; empty for an invalid handle and for every other object.
std::string_view text_view(nb::handle name);

// The part of a module's name before the first dot.
std::string_view top_level_package(std::string_view module);

// By the `__name__` of a function's globals.
Origin origin_of_globals(nb::handle globals);

// True for a Python function of the user's.
inline bool is_user_function(nb::handle object) {
  return PyFunction_Check(object.ptr()) != 0 &&
         origin_of_globals(PyFunction_GetGlobals(object.ptr())) == Origin::kUser;
}

// By the `__module__` of a class; runs no code of a metaclass.
Origin origin_of_class(nb::handle type);

inline bool is_user_class(nb::handle type) { return origin_of_class(type) == Origin::kUser; }

// True for a class whose objects never change, or are compared by identity alone: classes of JAX
// and numpy other than numpy's arrays, and those of loggers, locks, patterns, paths and dates.
bool is_opaque_class(nb::handle type);

// True for such a class whose equal objects are the same to any code if they have one text.
bool is_told_by_text(nb::handle type);

// True for the code of a constructor of the errors that JAX raises if a value is not concrete.
bool is_tracer_error_constructor(nb::handle code, nb::handle globals);

// True for the classes of numpy's random generators, whose state no guard compares.
bool is_random_generator(nb::handle type);

// True for the types of objects that jax.jit, jax.custom_jvp, jax.custom_vjp and jax.numpy.ufunc
// make of a function, which they hold.
bool wraps_functions(nb::handle type);

// The functions that such an object holds.
std::vector<nb::object> functions_inside(nb::handle wrapper);

// True for names of numpy.random that make a random generator, such as numpy.random.default_rng.
bool makes_random_generator(std::string_view module, nb::handle name);

// The state of numpy's global random generator, to be compared; "" if numpy.random is not imported.
nb::object numpy_random_state();

}  // namespace nnx_wrappers::upstream
