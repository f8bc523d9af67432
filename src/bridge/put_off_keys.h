// Keys that a ToNNX call owes to Linen, drawn only if Linen asks for them. Most calls
// never do, and drawing one takes longer than running a dense layer.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// As nnx_rngs_to_linen, but the key of each nnx.RngStream is put off: its count
// advances at once, its value is a flax.core LazyRng around a promise. Streams that are
// no plain RngStream, and everything that is no nnx.Rngs, are drawn now.
nanobind::dict put_off_keys(nanobind::handle rngs);

// The same dict with every key drawn.
nanobind::dict drawn(const nanobind::dict& keys);

// CheckedScope.rngs: the streams of a scope, with what was put off drawn. Keys are
// remembered for all scopes, but never beyond the trace they were put off in.
nanobind::object scope_rngs(nanobind::handle scope);

}  // namespace nnx_wrappers::bridge
