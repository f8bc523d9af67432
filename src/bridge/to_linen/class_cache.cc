#include "bridge/to_linen/class_cache.h"

#include <utility>

#include "py/cache_registry.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// Runs no Python, and throws only where there is no memory.
// NOLINTNEXTLINE(cert-err58-cpp,bugprone-throwing-static-initialization)
const py::CacheRegistration kRegistration({"qwix_classes",
                                           [] { return py::counts_of(ClassCache::get()); },
                                           [] { ClassCache::get().clear(); }});

}  // namespace

ClassCache& ClassCache::get() {
  static constinit py::Once<ClassCache> classes;  // immortal: holds Python objects
  return classes.get([] { return ClassCache(); });
}

nb::object ClassCache::find(nb::handle type, nb::handle name) {
  nb::object found = py::dict_get(classes_, nb::make_tuple(py::id(type), name));
  ++(found.is_valid() ? hits_ : misses_);
  return found;
}

void ClassCache::add(nb::handle type, nb::handle name, nb::handle made) {
  if (nb::len(classes_) >= kMaxEntries) clear();
  classes_[nb::make_tuple(py::id(type), name)] = made;
}

void ClassCache::clear() {
  const nb::dict dying = std::exchange(classes_, nb::dict());
  hits_ = 0;
  misses_ = 0;
}

}  // namespace nnx_wrappers::bridge
