// Everything that a ToLinen's constructor call depends on, read once a call.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

namespace nnx_wrappers::bridge {

// One RNG stream that the constructor is given.
struct Stream {
  nanobind::object name;
  nanobind::object key_type;  // (shape, dtype) of the key; invalid for a seed
  nanobind::object seed;      // the integer seed of an added 'default' stream
};

struct Recipe {
  nanobind::object nnx_class;
  nanobind::tuple args;
  nanobind::object kwargs;  // a mapping
  nanobind::object augment_fn;
  nanobind::object name;
  bool takes_rngs = false;
  std::vector<Stream> streams;
  nanobind::object interceptors;  // of Qwix, in this thread; invalid if there are none
};

// Reads the fields of a ToLinen and the streams of its scope; draws no key.
Recipe read_recipe(nanobind::handle to_linen, nanobind::handle scope, bool initializing);

// Runs the constructor and the augment function. `rngs` is an nnx.Rngs, or invalid
// if the class takes none. `reads_name`, if given, says whether the augment function may
// have looked at the name.
nanobind::object construct(const Recipe& recipe, const nanobind::object& rngs,
                           bool* reads_name = nullptr);

// The key under which what was learnt of this recipe may be used again: equal keys
// mean equal programs, JAX's trace context and Flax's configuration included. An
// invalid object if there is none; `reason` says why. The name is left out: see
// `key_with_name`.
nanobind::object recipe_key(const Recipe& recipe, std::string& reason);

// The key for a recipe whose augment function looks at the name.
nanobind::object key_with_name(nanobind::handle key, const Recipe& recipe);

}  // namespace nnx_wrappers::bridge
