// Docstrings of the functions that report on the library and switch parts of it.
#pragma once

namespace docs {

inline constexpr const char* kFeatures =
    R"(What works here, and why not where it does not.

The library knows how many versions of Flax and JAX work inside, and uses that where a probe finds
that it is right. Where a feature is off, Flax's own way runs: slower, with the same answers.

Returns:
  For each feature None where it is on, else the reason why it is off, such as a name that this version
  does not have, a probe that found a difference, another feature that is off, or the environment
  variable NNX_WRAPPERS_DISABLE. It is decided once in a process.

Example::

  >>> import nnx_wrappers
  >>> sorted(nnx_wrappers.features())  # doctest: +NORMALIZE_WHITESPACE
  ['fast_variables', 'fast_walk', 'guards', 'lazy_keys', 'lifted_scopes', 'native_scopes', 'plans',
   'qwix', 'repeated_calls', 'shape_checks']
)";

inline constexpr const char* kCacheInfo =
    R"(What the library remembers, counted since the last `clear_caches`.

Returns:
  Three dicts with the keys `size`, `hits` and `misses`, under the names `plans`,
  `shape_checks` and `qwix_classes`. `plans` has two more. `not_planned` counts constructor
  calls without a plan by reason, `rebuilt` plans that were made anew by what had changed.

Example::

  >>> import nnx_wrappers
  >>> nnx_wrappers.clear_caches()
  >>> nnx_wrappers.cache_info()['plans']['size']
  0
)";

inline constexpr const char* kClearCaches =
    R"(Forgets all that `cache_info` counts, and sets the counts to zero.

Example::

  >>> import nnx_wrappers
  >>> nnx_wrappers.clear_caches()
  >>> nnx_wrappers.cache_info()['shape_checks']
  {'size': 0, 'hits': 0, 'misses': 0}
)";

inline constexpr const char* kUsePlans =
    R"(Turns construction plans on or off for the process.

With a plan, `ToLinen` does not run the constructor again at `apply`. Plans are on
unless the environment variable `NNX_WRAPPERS_PLANS` is 0.

Args:
  enabled: whether plans may be used.

Returns:
  What was set before.

Raises:
  TypeError: if `enabled` is neither True nor False.

Example::

  >>> import nnx_wrappers
  >>> before = nnx_wrappers.use_plans(False)
  >>> nnx_wrappers.use_plans(before)
  False
)";

inline constexpr const char* kRecordUsage =
    R"(Turns the recording of calls, plans and seconds on or off for the process.

Args:
  enabled: whether the wrappers record.

Returns:
  What was set before; it is off at first.

Raises:
  TypeError: if `enabled` is neither True nor False.

Example::

  >>> import nnx_wrappers
  >>> before = nnx_wrappers.record_usage(True)
  >>> nnx_wrappers.record_usage(before)
  True
)";

inline constexpr const char* kUsage =
    R"(What the wrappers have done since `clear_usage` while recording was on.

Returns:
  A dict for each wrapped class, by seconds, descending. Its keys are `wrapper`, `wrapped`,
  `inits` (calls that made variables), `calls` (all others), `plans_built` and `plan_hits`
  (calls that used a new plan or one that was there, inits that JAX traces among them),
  `rebuilt` (of `plans_built`, how many by what had changed), `not_planned` (calls that ran
  the constructor, by reason) and `seconds` (inside the bridge, without those of the method
  of the wrapped module).

Example::

  >>> import jax, jax.numpy as jnp
  >>> from flax import nnx
  >>> import nnx_wrappers
  >>> model = nnx_wrappers.to_linen(nnx.Linear, 2, 3)
  >>> before = nnx_wrappers.record_usage(True)
  >>> variables = model.init(jax.random.key(0), jnp.ones((1, 2)))
  >>> [(row['wrapped'], row['inits']) for row in nnx_wrappers.usage()]
  [('flax.nnx.nn.linear.Linear', 1)]
  >>> nnx_wrappers.record_usage(before); nnx_wrappers.clear_usage()
  True
)";

inline constexpr const char* kClearUsage =
    R"(Empties the table of `usage`.

Example::

  >>> import nnx_wrappers
  >>> nnx_wrappers.clear_usage()
  >>> nnx_wrappers.usage()
  []
)";

}  // namespace docs
