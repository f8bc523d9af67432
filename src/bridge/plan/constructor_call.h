// Everything that a ToLinen's constructor call depends on, read once a call.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <vector>

#include "graph/guard_recorder.h"

namespace nnx_wrappers::bridge {

// One RNG stream that the constructor is given.
struct Stream {
  nanobind::object name;
  nanobind::object key_type;  // (shape, dtype) of the key; invalid for a seed
  nanobind::object seed;      // the integer seed of an added 'default' stream
};

struct ConstructorCall {
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
ConstructorCall read_constructor_call(nanobind::handle to_linen, nanobind::handle scope,
                                      bool initializing);

// Runs the constructor and the augment function. `rngs` is an nnx.Rngs, or invalid
// if the class takes none.
nanobind::object construct(const ConstructorCall& call, const nanobind::object& rngs);

// The key under which what was learnt of this call may be used again, while what the
// constructor depends on besides is as it was (`add_roots`): equal keys mean equal arguments,
// streams, JAX's trace context and Flax's configuration. An invalid object if there is none;
// `reason` says why.
nanobind::object key_of(const ConstructorCall& call, std::string& reason);

// Tells a recording what the constructor is given that the key knows by identity alone, and so
// has to be compared.
void add_roots(const ConstructorCall& call, graph::GuardRecorder& recorder);

}  // namespace nnx_wrappers::bridge
