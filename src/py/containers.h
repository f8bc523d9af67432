// Python containers: reading, copying, sorting and changing them.
//
// User code may run between any two steps of a walk and change the container that is walked, so
// walks iterate over owned copies. The two functions that begin with `borrowed_` are for loops that
// run no user code.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <iterator>
#include <span>
#include <utility>
#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

using Item = std::pair<nb::object, nb::object>;

// The items of a dict in insertion order, all owned. Runs no user code.
std::vector<Item> dict_items(nb::handle dict);

// The range that borrowed_items returns.
class BorrowedItems {
 public:
  using Item = std::pair<PyObject*, PyObject*>;

  class iterator {
   public:
    explicit iterator(PyObject* dict) : dict_(dict) { ++*this; }
    const Item& operator*() const { return item_; }
    iterator& operator++() {
      is_at_end_ = PyDict_Next(dict_, &position_, &item_.first, &item_.second) == 0;
      return *this;
    }
    bool operator==(std::default_sentinel_t) const { return is_at_end_; }

   private:
    PyObject* dict_;
    Py_ssize_t position_ = 0;
    Item item_;
    bool is_at_end_ = false;
  };

  explicit BorrowedItems(nb::handle dict) : dict_(dict.ptr()) {}
  iterator begin() const { return iterator(dict_); }
  static std::default_sentinel_t end() { return {}; }

 private:
  PyObject* dict_;
};

// The items of a dict in insertion order, borrowed. The dict must not change before the loop ends.
inline BorrowedItems borrowed_items(nb::handle dict) { return BorrowedItems(dict); }

// The elements of a tuple, borrowed. The tuple must live until the loop ends.
inline std::span<PyObject* const> borrowed_elements(nb::handle tuple) {
  return {reinterpret_cast<PyTupleObject*>(tuple.ptr())->ob_item,
          static_cast<size_t>(PyTuple_GET_SIZE(tuple.ptr()))};
}

// The items of any mapping, as its `items()` gives them; a dict is read directly.
std::vector<Item> mapping_items(nb::handle mapping);

// Orders items by key as `sorted(items)` does: strings by code point, other
// keys by their own `<`. Throws TypeError for keys that do not compare.
void sort_by_key(std::vector<Item>& items);

// The same, but keys that do not compare keep their insertion order.
void sort_by_key_if_comparable(std::vector<Item>& items);

// The elements of any iterable, owned.
std::vector<nb::object> elements(nb::handle iterable);

// `dict[key]`, or an invalid object if the key is missing. `dict` must be a dict.
nb::object dict_get(nb::handle dict, nb::handle key);

// `del dict[key]`.
void remove(nb::handle dict, nb::handle key);

// Removes a key if the dict has it.
void discard(nb::handle dict, nb::handle key);

// `key in container`.
bool contains(nb::handle container, nb::handle key);

// True for dict, FrozenDict, State and every other collections.abc.Mapping.
bool is_mapping(nb::handle object);

// True for a list or tuple, subclasses included.
inline bool is_list_or_tuple(nb::handle object) {
  return PyList_Check(object.ptr()) != 0 || PyTuple_Check(object.ptr()) != 0;
}

// Gives `dict` the items of `saved`; it stays the same object.
void restore_dict(nb::handle dict, nb::handle saved);

// A new dict with the items of any mapping.
nb::dict to_dict(nb::handle mapping);

// A shallow copy of a dict.
nb::dict copy_dict(nb::handle dict);

}  // namespace nnx_wrappers::py
