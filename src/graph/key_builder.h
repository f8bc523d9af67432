// Makes one static key. For static_key.cc and function_key.cc only; others include static_key.h.
#pragma once

#include <nanobind/nanobind.h>

#include <initializer_list>
#include <memory>
#include <optional>
#include <vector>

#include "graph/static_key.h"
#include "py/containers.h"

namespace nnx_wrappers::graph {

class KeyBuilder {
 public:
  // `by_identity` collects the objects that are keyed by identity, unless it is null.
  explicit KeyBuilder(Unknown unknown, std::vector<nb::object>* by_identity = nullptr)
      : unknown_(unknown), by_identity_(by_identity) {}

  // The key of an object, or an invalid object if it has none.
  nb::object key_of(nb::handle object);

  // The keys of all objects or items as a tuple, or an invalid object if one of them has none.
  nb::object elements_key(const std::vector<nb::object>& objects);
  nb::object items_key(const std::vector<py::Item>& items);

  // The key of keyword arguments, which is that of a FrozenDict.
  nb::object keywords_key(const nb::dict& keywords);

 private:
  nb::object weak_key(nb::handle object);
  nb::object id_key(nb::handle object);
  nb::object function_key(nb::handle function);
  nb::object linen_module_key(nb::handle module);
  nb::object unknown_key(nb::handle object);
  // The key of an object of one of Python's own types; nothing for other types.
  std::optional<nb::object> builtin_key(nb::handle object);

  Unknown unknown_;
  std::vector<nb::object>* by_identity_;
  std::vector<PyObject*> functions_;  // whose keys are being made, outermost first
};

// The key (sentinel, kind, part, part, ...), or an invalid object if a part is invalid.
nb::object tagged_key(const char* kind, std::initializer_list<nb::object> parts);

// True if the type of the object is one of these, and no subclass.
bool is_exactly_one_of(nb::handle object, std::initializer_list<PyTypeObject*> types);

// Forgets the keys of functions. They die with the object that it returns.
std::shared_ptr<const void> take_function_keys();

}  // namespace nnx_wrappers::graph
