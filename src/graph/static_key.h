// Hashable keys of static Python values, with the contract of jax.jit's static arguments: two
// values have equal keys only if code does the same with either. Values of different types have
// different keys: 1, 1.0 and True.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::graph {

namespace nb = nanobind;

// The keys of objects of unknown types.
enum class Unknown {
  kRefuse,     // they have none
  kByIdentity  // their address, which is valid while the object lives: whoever keeps the key has to
               // see to that. Arrays, NNX objects and bound Linen modules have no key.
};

// The key of `object`, or an invalid object if it has none.
//
// - None, numbers, texts, bytes, enum members, dtypes and PartitionSpecs are keyed by value. A
//   dtype with parts or with metadata has no key.
// - Lists, tuples, sets, dicts and FrozenDicts are keyed by what they hold when the key is made.
// - Classes, functions without a closure, and functions that JAX has wrapped are keyed by identity.
//   Functions with a closure are keyed by their code and by the keys of what they close over, of
//   their defaults and of their attributes.
// - functools.partial and methods are keyed by their parts, C functions by identity if they are
//   bound to no object.
// - Linen modules are keyed by their fields except `parent` and `name`. With kRefuse this holds for
//   bound ones too.
// - With kByIdentity, frozen dataclasses that hold nothing mutable are keyed by their fields, named
//   tuples by their elements, and objects of JAX and numpy by their own hash and `==`, and by
//   their texts.
//
// A key refers to classes and functions weakly. It does not keep them alive, and once they are dead
// it equals no other key.
nb::object static_key(nb::handle object, Unknown unknown = Unknown::kRefuse);

// The objects that the key of `object` has by identity: classes, functions without a closure, and
// objects of unknown types. The key does not depend on what they hold.
std::vector<nb::object> known_by_identity(nb::handle object);

// The key of keyword arguments: that of a FrozenDict with these items.
nb::object static_key_of_keywords(const nb::dict& keywords, Unknown unknown = Unknown::kRefuse);

// The key of JAX's trace context: x64, PRNG implementation, mesh and the like.
nb::object trace_context_key();

// The same without what code has to ask for to depend on it: the named axes of an enclosing vmap
// and the meshes of `with mesh:`. Whatever these are, the key is one.
nb::object common_context_key();

// Forgets the keys that are remembered, those of functions with a closure and that of the last
// trace context.
void forget_keys();

}  // namespace nnx_wrappers::graph
