// CPython's version numbers of dicts and classes, by which one comparison tells that nothing has
// changed; and its count of thread switches. Runs no user code.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// The version of a dict: every change gives it another (PEP 509). 0 on Python 3.14 and later, which
// has no such versions.
std::uint64_t dict_version(nb::handle dict);

// As py::optional_instance_dict, but every store of an attribute changes the version of the dict.
// Python 3.13 otherwise keeps the attributes of some instances outside of their dict.
nb::object versioned_instance_dict(nb::handle object);

// The version of a class: every change of it or of a base gives it another. 0 if it has none.
unsigned type_version(nb::handle type);

// The same, but a class that has no version gets one. 0 for a class that was changed so often that
// CPython assigns it none any more.
unsigned assigned_type_version(nb::handle type);

// How often one thread has taken the GIL over from another.
unsigned long thread_switches();

// While it lives, no garbage is collected, so no finalizer runs.
class GarbageCollectionPause {
 public:
  GarbageCollectionPause() : was_enabled_(PyGC_Disable() != 0) {}
  ~GarbageCollectionPause() {
    if (was_enabled_) PyGC_Enable();
  }
  GarbageCollectionPause(const GarbageCollectionPause&) = delete;
  GarbageCollectionPause& operator=(const GarbageCollectionPause&) = delete;

 private:
  bool was_enabled_;
};

}  // namespace nnx_wrappers::py
