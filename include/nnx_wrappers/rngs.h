// RNG keys across the border. Needs the GIL; borrows arguments.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers {

// One key for each RNG stream that is active in the module's scope, in the scope's
// order; each draw advances the scope's counter. With `add_default` a missing
// 'default' stream is given the seed 0. Throws ValueError unless `linen_module` is
// a bound Linen module, TypeError unless it is a Linen module.
nanobind::dict linen_rngs_dict(nanobind::handle linen_module, bool add_default = false);

// The keys that a ToNNX call hands to Linen, from what the user gave: nnx.Rngs (one
// key drawn from each stream), a jax.Array key (the stream 'params'), a mapping of
// stream names to keys, or None. 'default' is renamed 'params' where that is
// missing. Throws TypeError for anything else.
nanobind::dict nnx_rngs_to_linen(nanobind::handle rngs);

}  // namespace nnx_wrappers
