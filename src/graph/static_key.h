// Hashable keys for static Python values, with the contract of jax.jit's static
// arguments: two values have equal keys only if code that is given one or the
// other does the same. Types are told apart: 1, 1.0 and True have different keys.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// What to do with objects of unknown types.
enum class Unknown {
  kRefuse,     // no key
  kByIdentity  // the object itself: a key for it holds as long as it lives, which whoever uses the
               // key has to see to. Arrays, NNX objects and bound Linen modules have no key.
};

// The key of `object`, or an invalid object if it has none: arrays and objects of
// unknown types. Lists and dicts are keyed by what they hold at the moment.
//
// Known are None, numbers, strings, bytes, enum members, dtypes, classes,
// functions (one without a closure is itself; one with a closure is its code and
// the keys of what it closes over, of its defaults and attributes), functions of C that
// are bound to no object, functools.partial, methods of known objects,
// tuples, lists, dicts, FrozenDict, PartitionSpec, and Linen modules by their fields (`parent` and
// `name` left out, whether they are bound or not). With kByIdentity also frozen dataclasses, by
// their fields, and objects of JAX and numpy, by their own hash.
// Classes and functions are held weakly: a key does not keep them alive, and never
// equals another key once they are gone.
nb::object static_key(nb::handle object, Unknown unknown = Unknown::kRefuse);

// The objects that the key of `object` knows by identity alone: classes, functions without a
// closure, and those of unknown types. What they hold is not in the key.
std::vector<nb::object> known_by_identity(nb::handle object);

// The key of keyword arguments, as that of a FrozenDict with these items.
nb::object static_key_of_keywords(const nb::dict& keywords, Unknown unknown = Unknown::kRefuse);

// JAX's trace context (x64, PRNG implementation, mesh, ...) as a key.
nb::object trace_context_key();

// Forgets what is remembered to make keys faster: those of functions with closures,
// while what they close over stays the same objects, and of the last trace context.
void forget_keys();

}  // namespace nnx_wrappers::graph
