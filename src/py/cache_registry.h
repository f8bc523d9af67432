// The caches of the library, so that all of them can be reported on and cleared at once.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>
#include <vector>

namespace nnx_wrappers::py {

// A cache that lives as long as the process. Both functions are called under the GIL.
struct RegisteredCache {
  std::string name;                        // empty for a cache that is cleared but not reported
  std::function<nanobind::dict()> counts;  // {'size', 'hits', 'misses', ...}; only with a name
  std::function<void()> clear;             // forgets everything and sets the counts to zero
};

// Registers a cache while the library is loaded: each file that owns a cache has a constant of this
// type at namespace scope. Registering runs no Python.
class CacheRegistration {
 public:
  explicit CacheRegistration(RegisteredCache cache);
};

// All registered caches, sorted by name.
std::vector<RegisteredCache> registered_caches();

// The counts that all caches have in common, for RegisteredCache::counts.
template <typename Cache>
nanobind::dict counts_of(const Cache& cache) {
  nanobind::dict counts;
  counts["size"] = cache.size();
  counts["hits"] = cache.hits();
  counts["misses"] = cache.misses();
  return counts;
}

}  // namespace nnx_wrappers::py
