#include "py/containers.h"

#include <algorithm>
#include <string>

#include "nnx_wrappers/errors.h"
#include "py/names.h"
#include "py/object.h"
#include "py/once.h"

namespace nnx_wrappers::py {

std::vector<Item> dict_items(nb::handle dict) {
  std::vector<Item> items;
  items.reserve(static_cast<size_t>(PyDict_Size(dict.ptr())));
  PyObject* key = nullptr;
  PyObject* value = nullptr;
  Py_ssize_t position = 0;
  while (PyDict_Next(dict.ptr(), &position, &key, &value) != 0) {
    items.emplace_back(nb::borrow(key), nb::borrow(value));
  }
  return items;
}

std::vector<Item> mapping_items(nb::handle mapping) {
  if (PyDict_CheckExact(mapping.ptr())) return dict_items(mapping);
  std::vector<Item> items;
  for (nb::object& pair : elements(get(mapping, names().items)())) {
    const nb::tuple key_value(pair);
    if (key_value.size() != 2) {
      raise_type_error({"items() of " + describe(mapping), "pairs of key and value",
                        "a tuple of " + std::to_string(key_value.size()), "Pass a plain dict."});
    }
    items.emplace_back(key_value[0], key_value[1]);
  }
  return items;
}

namespace {

bool all_strings(const std::vector<Item>& items) {
  return std::ranges::all_of(
      items, [](const Item& item) { return PyUnicode_CheckExact(item.first.ptr()) != 0; });
}

}  // namespace

void sort_by_key(std::vector<Item>& items) {
  if (all_strings(items)) {
    std::ranges::stable_sort(items, [](const Item& left, const Item& right) {
      return PyUnicode_Compare(left.first.ptr(), right.first.ptr()) < 0;
    });
    return;
  }
  // A user's `<` may be no strict weak order, which std::sort requires, so Python sorts
  // (key, position) pairs.
  nb::list order;
  for (size_t i = 0; i < items.size(); ++i) order.append(nb::make_tuple(items[i].first, i));
  if (PyList_Sort(order.ptr()) != 0) throw nb::python_error();
  std::vector<Item> sorted;
  sorted.reserve(items.size());
  for (nb::handle pair : order) sorted.push_back(items.at(nb::cast<size_t>(pair[1])));
  items = std::move(sorted);
}

void sort_by_key_if_comparable(std::vector<Item>& items) {
  try {
    sort_by_key(items);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
}

std::vector<nb::object> elements(nb::handle iterable) {
  std::vector<nb::object> result;
  if (PyTuple_CheckExact(iterable.ptr())) {
    const auto size = static_cast<size_t>(PyTuple_Size(iterable.ptr()));
    result.reserve(size);
    for (size_t i = 0; i < size; ++i) {
      result.push_back(nb::borrow(PyTuple_GetItem(iterable.ptr(), static_cast<Py_ssize_t>(i))));
    }
    return result;
  }
  for (nb::handle element : nb::iter(iterable)) result.push_back(nb::borrow(element));
  return result;
}

nb::object dict_get(nb::handle dict, nb::handle key) {
  PyObject* value = PyDict_GetItemWithError(dict.ptr(), key.ptr());
  if (value == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  return nb::borrow(value);
}

void remove(nb::handle dict, nb::handle key) {
  if (PyDict_DelItem(dict.ptr(), key.ptr()) != 0) throw nb::python_error();
}

void discard(nb::handle dict, nb::handle key) {
  if (contains(dict, key)) remove(dict, key);
}

bool contains(nb::handle container, nb::handle key) {
  const int found = PySequence_Contains(container.ptr(), key.ptr());
  if (found < 0) throw nb::python_error();
  return found != 0;
}

bool is_mapping(nb::handle object) {
  if (PyDict_Check(object.ptr())) return true;
  static constinit Once<const nb::handle> once;
  // The interpreter has imported the module already. The class is immortal, as interned names are.
  return is_instance(object, once.get([] {
    return nb::object(nb::module_::import_("collections.abc").attr("Mapping")).release();
  }));
}

void restore_dict(nb::handle dict, nb::handle saved) {
  PyDict_Clear(dict.ptr());
  if (PyDict_Update(dict.ptr(), saved.ptr()) != 0) throw nb::python_error();
}

nb::dict to_dict(nb::handle mapping) {
  if (PyDict_CheckExact(mapping.ptr())) return copy_dict(mapping);
  nb::dict dict;
  for (const auto& [key, value] : mapping_items(mapping)) dict[key] = value;
  return dict;
}

nb::dict copy_dict(nb::handle dict) {
  PyObject* copy = PyDict_Copy(dict.ptr());
  if (copy == nullptr) throw nb::python_error();
  return nb::steal<nb::dict>(copy);
}

}  // namespace nnx_wrappers::py
