// What CPython counts of the changes of dicts and classes, so that "nothing has changed" is the
// comparison of two numbers; and of the turns that threads take. Raw CPython, wrapped at once;
// runs no user code.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// A number that every change of the dict changes (PEP 509), or 0 where the interpreter does not
// count: from Python 3.14 on.
std::uint64_t dict_version(nb::handle dict);

// The `__dict__` of an instance, or an invalid object if it has none. Made if the instance has
// none yet, and such that `dict_version` counts the stores of attributes: on Python 3.13 they may
// pass by the dict otherwise. No `__dict__` of the class is asked.
nb::object counted_instance_dict(nb::handle object);

// The same without a look at how the dict counts: what `counted_instance_dict` has returned
// before, if it is still the dict of the instance. Allocates nothing.
nb::object present_instance_dict(nb::handle object);

// A number that every change of the class or of a base of it changes, or 0 if it has none.
unsigned type_version(nb::handle type);

// The same, after a look-up, which gives a class without a number one. 0 for a class that gets
// none any more, since it was changed too often.
unsigned assigned_type_version(nb::handle type);

// How often a thread has taken the interpreter over from another.
unsigned long thread_switches();

// While it lives, nothing collects garbage, so that no finalizer runs.
class NoCollection {
 public:
  NoCollection() : was_enabled_(PyGC_Disable() != 0) {}
  ~NoCollection() {
    if (was_enabled_) PyGC_Enable();
  }
  NoCollection(const NoCollection&) = delete;
  NoCollection& operator=(const NoCollection&) = delete;

 private:
  bool was_enabled_;
};

}  // namespace nnx_wrappers::py
