#include "nnx_wrappers/caches.h"

#include "py/cache_registry.h"

namespace nnx_wrappers {

namespace nb = nanobind;

nb::dict cache_info() {
  nb::dict info;
  for (const py::RegisteredCache& cache : py::registered_caches()) {
    if (!cache.name.empty()) info[cache.name.c_str()] = cache.counts();
  }
  return info;
}

void clear_caches() {
  for (const py::RegisteredCache& cache : py::registered_caches()) cache.clear();
}

}  // namespace nnx_wrappers
