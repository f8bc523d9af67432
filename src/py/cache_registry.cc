#include "py/cache_registry.h"

#include <algorithm>
#include <utility>

namespace nnx_wrappers::py {

namespace {

// Made by the first registration, since files are initialized in no fixed order. Never destroyed.
std::vector<RegisteredCache>& registry() {
  static auto* caches = new std::vector<RegisteredCache>();
  return *caches;
}

}  // namespace

CacheRegistration::CacheRegistration(RegisteredCache cache) {
  registry().push_back(std::move(cache));
}

std::vector<RegisteredCache> registered_caches() {
  std::vector<RegisteredCache> caches = registry();
  std::ranges::sort(caches, {}, &RegisteredCache::name);
  return caches;
}

}  // namespace nnx_wrappers::py
