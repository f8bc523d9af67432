// The keys that a ToNNX call hands to Linen, drawn only if Linen asks for them. Most calls never
// do, and drawing one takes longer than running a dense layer.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// As nnx_rngs_to_linen, but the key of each nnx.RngStream is lazy: the count of the stream advances
// at once, and the key is a flax.core.scope.LazyRng that computes it when it is used. Streams that
// are no plain RngStream, and everything that is no nnx.Rngs, are drawn now.
nanobind::dict lazy_keys(nanobind::handle rngs);

// The same dict with every key drawn.
nanobind::dict drawn(const nanobind::dict& keys);

// CheckedScope.rngs: the streams of a scope, with lazy keys drawn. A drawn key is
// remembered for all scopes, but never beyond the trace that the lazy key was made in.
nanobind::object scope_rngs(nanobind::handle scope);

// True if some of these keys are of streams that may not advance in this trace: drawing one of
// them is a TraceContextError.
bool holds_back(const nanobind::dict& keys);

inline constexpr const char* kHeldBack =
    "The module has keys of its own, but it is closed over by a transformation, in which its "
    "streams may not advance: pass it as an argument of the transformation, give the call "
    "rngs=..., "
    "or release_rngs() if it draws nothing.";

}  // namespace nnx_wrappers::bridge
