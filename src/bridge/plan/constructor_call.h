// The constructor call of a ToLinen, and the key of everything that it depends on.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <string>
#include <vector>

#include "graph/guard_recorder.h"

namespace nnx_wrappers::bridge {

// An RNG stream that the constructor is given: it has a key or a seed.
struct Stream {
  nanobind::object name;
  nanobind::object key_type;  // (shape, dtype) of the key; invalid for a seed
  nanobind::object seed;      // the integer that stands for a missing 'default' stream
  bool varies = false;        // the key is another one on each shard of a jax.shard_map
};

struct ConstructorCall {
  nanobind::object nnx_class;
  nanobind::tuple args;
  nanobind::object kwargs;  // a mapping
  nanobind::object augment_fn;
  nanobind::object name;
  bool takes_rngs = false;
  bool falls_back = false;  // streams that are missing fall back to 'params', as in Linen's `init`
  std::vector<Stream> streams;
  nanobind::object interceptors;  // upstream::qwix_interceptors

  // The number of streams that have a key.
  size_t keys() const;
};

// Reads the fields of a ToLinen and the streams of its scope. Draws no key.
ConstructorCall read_constructor_call(nanobind::handle to_linen, nanobind::handle scope,
                                      bool initializing);

// The nnx.Rngs for the constructor, with a key or a seed for each stream; an invalid object if it
// takes none.
nanobind::object make_rngs(const ConstructorCall& call, const nanobind::dict& streams);

class AugmentCheck;

// Runs the constructor and the augment function, which `check` runs if there is one. `rngs` is an
// nnx.Rngs, or invalid if the class takes none.
nanobind::object construct(const ConstructorCall& call, const nanobind::object& rngs,
                           AugmentCheck* check = nullptr);

// What the augment function of `call` returns for this module. `call` has one.
nanobind::object augmented(const ConstructorCall& call, const nanobind::object& module);

// Adds to a key what Flax and JAX have set that a constructor may depend on, but for the trace
// context. Returns false if that has no key.
bool append_settings(nanobind::list& key);

// The key of a constructor call, without the name, which only an augment function is given. Calls
// with equal keys have equal arguments, streams, trace contexts of JAX and configurations of Flax.
// Whatever else the constructor depends on is compared by guards.
struct CallKey {
  nanobind::object key;  // invalid if the call has none
  std::string reason;    // why it has none
};
CallKey key_of(const ConstructorCall& call);

// Adds to a recording the objects that the key has by identity: guards compare their contents.
void add_roots(const ConstructorCall& call, graph::GuardRecorder& recorder);

}  // namespace nnx_wrappers::bridge
