// The caches of the library, for those who report on all of them or clear them.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>
#include <vector>

namespace nnx_wrappers::py {

// A cache that lives as long as the process. Both functions are called under the GIL.
struct RegisteredCache {
  std::string name;                        // empty: only cleared, not reported
  std::function<nanobind::dict()> counts;  // {'size', 'hits', 'misses', ...}; may be empty
  std::function<void()> clear;             // forgets everything and sets the counts to zero
};

// Registers a cache while the library is loaded: each file that owns one has a constant of this
// type at namespace scope. No Python runs before the cache is asked for something.
class CacheRegistration {
 public:
  explicit CacheRegistration(RegisteredCache cache);
};

// All caches, ordered by name.
std::vector<RegisteredCache> registered_caches();

// The counts that every cache has, for RegisteredCache::counts.
template <typename Cache>
nanobind::dict counts_of(const Cache& cache) {
  nanobind::dict counts;
  counts["size"] = cache.size();
  counts["hits"] = cache.hits();
  counts["misses"] = cache.misses();
  return counts;
}

}  // namespace nnx_wrappers::py
