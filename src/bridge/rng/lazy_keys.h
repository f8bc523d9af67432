// The keys that a ToNNX call hands to Linen, drawn only if Linen asks for them. Most calls need
// none, and drawing a key takes longer than running a dense layer.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// As nnx_rngs_to_linen, but the keys of an nnx.Rngs are lazy: the count of a stream advances at
// once, and the key is a flax.core.scope.LazyRng that computes it when it is used. The key of a
// stream whose class or Variables are not Flax's plain ones is drawn at once.
//
// A stream that may not advance in the current trace has a key that is held back: it is not in the
// dict of drawn keys, and asking for it raises a TraceContextError.
nanobind::dict lazy_keys(nanobind::handle rngs);

// The keys with which lazy_init calls Linen: as nnx_rngs_to_linen, but in some versions of Flax the
// streams of an nnx.Rngs do not advance.
nanobind::dict initial_keys(nanobind::handle rngs);

// These keys, drawn, without those that are held back.
nanobind::dict drawn_keys(const nanobind::dict& keys);

// The body of CheckedScope.rngs: the streams of a scope, with their keys drawn. The drawn keys
// replace the lazy ones in the scope, unless they belong to an inner trace, which they must not
// outlive.
nanobind::object scope_rngs(nanobind::handle scope);

// True if some of these keys are held back; `rngs` is what they were made of.
bool has_held_back_keys(const nanobind::dict& keys, nanobind::handle rngs);

// The text of the TraceContextError for a key that is held back.
inline constexpr const char* kHeldBackRemedy =
    "The module is closed over by a transformation, in which its streams may not advance. Pass the "
    "module as an argument of the transformation, pass rngs=... to the call, or call "
    "release_rngs() if the module draws no keys.";

}  // namespace nnx_wrappers::bridge
