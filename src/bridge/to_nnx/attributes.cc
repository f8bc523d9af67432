#include "bridge/to_nnx/attributes.h"

#include "graph/path.h"
#include "nnx_wrappers/collections.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/dialect/wrapper.h"
#include "upstream/facade.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

bool holds_variable(nb::handle value) {
  const py::RecursionGuard guard(" while looking for variables");
  if (upstream::is_variable(value)) return true;
  if (!py::is_mapping(value)) return false;
  for (const auto& item : py::mapping_items(value)) {
    if (holds_variable(item.second)) return true;
  }
  return false;
}

// The path of the first leaf of an attribute, for an error message.
std::string first_path(nb::handle name, nb::handle value) {
  graph::Path path{nb::borrow(name)};
  nb::object level = nb::borrow(value);
  while (py::is_mapping(level)) {
    const auto items = py::mapping_items(level);
    if (items.empty()) break;
    path.push_back(items.front().first);
    level = items.front().second;
  }
  std::string text = graph::to_string(path);
  if (upstream::is_variable(level)) {
    const nb::object collection = upstream::collection_of(upstream::variable_type(level));
    if (collection.is_valid()) text = py::utf8(collection) + "/" + text;
  }
  return text;
}

void refuse_shadowing(nb::handle to_nnx, nb::handle name, nb::handle value,
                      const std::string& where) {
  // capture_intermediates stores the output of __call__ under that name. Python looks __call__ up
  // on the class, so the attribute hides nothing.
  const bool hides = !name.equal(upstream::names().call_dunder) &&
                     py::class_attribute(to_nnx.type(), name).is_valid();
  if (!hides && !upstream::is_wrapper_attribute(name)) return;
  const std::string text = py::utf8(name);
  raise_value_error({where + ", " + first_path(name, value),
                     "Linen names that an NNX attribute can have",
                     "'" + text + "', which would shadow " +
                         (hides ? py::type_name(to_nnx.type()) + "." + text
                                : std::string("the wrapper's own attributes")),
                     "Rename the Linen submodule or variable."});
}

// New nested dicts with the items of both; those of `update` win.
nb::dict merged(nb::handle current, nb::handle update) {
  const py::RecursionGuard guard(" while merging updates");
  nb::dict result;
  for (const auto& [key, value] : py::mapping_items(current)) result[key] = value;
  for (const auto& [key, value] : py::mapping_items(update)) {
    const nb::object before = py::dict_get(result, key);
    const bool both = before.is_valid() && py::is_mapping(before) && py::is_mapping(value);
    result[key] = both ? nb::object(merged(before, value)) : value;
  }
  return result;
}

}  // namespace

bool is_to_nnx(nb::handle object) {
  return py::is_instance(object, upstream::facade().nnx_module) &&
         py::dict_get(py::instance_dict(object), upstream::names().to_nnx_module).is_valid();
}

nb::dict state_attributes(nb::handle to_nnx) {
  nb::dict attributes;
  for (const auto& [name, value] : py::dict_items(py::instance_dict(to_nnx))) {
    if (!upstream::is_wrapper_attribute(name)) attributes[name] = value;
  }
  return attributes;
}

bool has_variables(nb::handle to_nnx) { return holds_variable(state_attributes(to_nnx)); }

void set_variables(nb::handle to_nnx, nb::handle linen_variables, const std::string& where) {
  const nb::dict attributes = linen_vars_to_nnx_attrs(linen_variables);
  const auto items = py::dict_items(attributes);
  for (const auto& [name, value] : items) refuse_shadowing(to_nnx, name, value, where);
  const nb::dict current = py::instance_dict(to_nnx);
  for (const auto& [name, value] : items) {
    nb::object next = value;
    const nb::object before = py::dict_get(current, name);
    if (before.is_valid() && py::is_mapping(before) && py::is_mapping(value)) {
      next = merged(before, value);
    }
    py::set(to_nnx, name, upstream::marked_as_data(next));
  }
}

}  // namespace nnx_wrappers::bridge
