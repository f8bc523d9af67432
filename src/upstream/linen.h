// Linen's dynamic context and modules, and the context of flax.nnx.bridge.module.
#pragma once

#include <nanobind/nanobind.h>

#include <unordered_map>
#include <vector>

#include "py/containers.h"

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

// The innermost Linen module that runs in this thread, or None.
nb::object innermost_linen_module();

// The innermost flax.nnx.bridge.Module that runs in this thread, or None.
nb::object innermost_bridge_module();

// True for the names of methods that copy and pickle look for, such as `__deepcopy__`.
bool is_copy_protocol_name(nb::handle name);

// True if the Linen module is bound, and `init` runs it.
bool is_initializing(nb::handle linen_module);

// The `mutable` filter of the scope of the innermost bridge module, else of the innermost Linen
// module; an invalid object if neither runs with a scope.
nb::object enclosing_mutable();

// True if the bound Linen module has adopted a submodule of this name.
bool has_submodule(nb::handle linen_module, nb::handle name);

// What a function of Flax, given by its code and globals, reads of Linen's context or of that of
// flax.nnx.bridge.module.
enum class ContextRead {
  kNone,
  kModule,  // the innermost module, for its caller
  kParent   // the parent of a new Linen module, which is the innermost one
};
ContextRead context_read(nb::handle code, nb::handle globals);

// While it lives, no Linen module is current in this thread. Linen finds `stand_in` in the place of
// one: None, an object with which it fails, or what stand_in_module returns.
class NoLinenModule {
 public:
  explicit NoLinenModule(nb::handle stand_in = nb::none());
  ~NoLinenModule();
  NoLinenModule(const NoLinenModule&) = delete;
  NoLinenModule& operator=(const NoLinenModule&) = delete;

  // True if the innermost Linen module of this thread is the object that a NoLinenModule put there.
  static bool is_innermost();

 private:
  nb::list stack_;
  nb::handle stand_in_before_;
};

// A Linen module in its compact method, bound to a scope of its own without variables: modules that
// are made inside get the names that they would get in any such module. None if no Linen module
// runs in this thread, since then modules that are made get no names.
nb::object stand_in_module();

// True if a method of a module that was made inside the stand-in has run in its scope, or in one
// below it.
bool has_run_modules(nb::handle stand_in);

// True if the innermost Linen module of this thread has named no other module yet, or if there is
// none.
bool is_innermost_without_names();

// Copies Linen modules that were made inside a stand-in, each once and with its name, into the
// innermost Linen module of this thread. An unbound module is returned itself.
class LinenMove {
 public:
  // Throws Flax's error if the name is taken.
  nb::object moved(nb::handle linen_module);

 private:
  nb::object moved_in(nb::handle value);

  std::unordered_map<PyObject*, nb::object> moved_;  // by the modules, which the caller owns
};

// True if a Linen module is what its class makes of its fields: it has no other attributes, and the
// class has the __init__ of a dataclass, and Flax's __post_init__, __setattr__ and clone.
bool is_told_by_its_fields(nb::handle linen_module);

// True if Linen does nothing with a field of this value when it clones or binds a module, since the
// value holds no Linen module to adopt and no container to freeze. False for a value that would
// take long to search.
bool is_inert(nb::handle value);

// True for an instance of linen.Module.
bool is_linen_module(nb::handle object);

// The fields of a Linen module, but its name and its parent: (name, value).
std::vector<py::Item> fields_of(nb::handle linen_module);

// True inside `nn.intercept_methods`, in this thread.
bool has_interceptors();

// Throws Flax's error for a Linen module whose class overrides `__init__` and does not call
// Linen's.
void run_module_checks(nb::handle linen_module);

// True for a box: an instance of AxisMetadata, such as nn.Partitioned.
bool is_axis_metadata(nb::handle object);

// True for a level of a tree of Linen variables: a dict or a FrozenDict. As in Flax, every other
// mapping is a leaf.
bool is_level(nb::handle object);

// The dict behind a level that is a dict or a FrozenDict, and no subclass; an invalid object for
// all other objects. Not to be changed.
nb::object level_dict(nb::handle level);

// The tree with plain dicts in the place of FrozenDicts.
nb::object unfreeze(nb::handle tree);

// The value of a leaf of Linen's variables: without its box, and if it is a pytree, without the
// boxes inside it.
nb::object unboxed(nb::handle leaf);

}  // namespace nnx_wrappers::upstream
