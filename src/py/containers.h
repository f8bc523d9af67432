// Snapshots of Python containers. User code may run between any two steps of a
// walk and change what is walked, so a walk iterates over an owned copy.
#pragma once

#include <nanobind/nanobind.h>

#include <utility>
#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

using Item = std::pair<nb::object, nb::object>;

// (key, value) pairs of a dict in insertion order, all owned. Runs no user code.
std::vector<Item> dict_items(nb::handle dict);

// (key, value) pairs of any Mapping through `.items()`; a dict is read directly.
std::vector<Item> mapping_items(nb::handle mapping);

// Orders items by key as `sorted(items)` does: strings by code point, other
// keys by their own `<`. Throws TypeError for keys that do not compare.
void sort_by_key(std::vector<Item>& items);

// As sort_by_key, but keys that do not compare keep their insertion order.
void sort_by_key_if_comparable(std::vector<Item>& items);

// Elements of any iterable, owned.
std::vector<nb::object> elements(nb::handle iterable);

// dict[key], or an invalid object where it is missing. `dict` must be a dict.
nb::object dict_get(nb::handle dict, nb::handle key);

// del dict[key].
void remove(nb::handle dict, nb::handle key);

// The same; nothing happens if it is not there.
void remove_if_there(nb::handle dict, nb::handle key);

// key in container.
bool contains(nb::handle container, nb::handle key);

// True for dict, FrozenDict, State and every other collections.abc.Mapping.
bool is_mapping(nb::handle object);

// True for a list or tuple, subclasses included.
inline bool is_list_or_tuple(nb::handle object) {
  return PyList_Check(object.ptr()) != 0 || PyTuple_Check(object.ptr()) != 0;
}

// Replaces what `dict` holds by what `saved` holds, keeping the dict's identity.
void restore_dict(nb::handle dict, nb::handle saved);

// A new dict with the items of any mapping.
nb::dict to_dict(nb::handle mapping);

// A shallow copy of a dict.
nb::dict copy_dict(nb::handle dict);

}  // namespace nnx_wrappers::py
