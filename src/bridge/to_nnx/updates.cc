#include "bridge/to_nnx/updates.h"

#include <map>
#include <utility>

#include "bridge/convert/leaf_for_call.h"
#include "bridge/to_nnx/attributes.h"
#include "bridge/to_nnx/linen_layout.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/leaked.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// True for the collections whose variables belong to one call, which fills them only on request.
bool is_filled_on_request(nb::handle collection) {
  const std::string name = py::utf8(collection);
  return name == "intermediates" || name == "perturbations";
}

// Tells which Variables the current trace may change. Remembers the answer for each TraceState.
class Writability {
 public:
  bool may_change(nb::handle variable) {
    if (!upstream::is_plain_variable(variable)) return true;  // a hijax variable checks it itself
    if (upstream::is_array_ref(upstream::raw_value(variable))) return true;
    const nb::object state = upstream::trace_state_of(variable);
    if (!state.is_valid()) return true;
    const auto known = known_.find(state.ptr());
    if (known != known_.end()) return known->second;
    kept_.push_back(state);
    return known_[state.ptr()] = upstream::is_current_trace(state);
  }

 private:
  std::map<PyObject*, bool> known_;
  std::vector<nb::object> kept_;  // owns the keys of known_
};

struct ArrayAttribute {
  graph::Path path;
  nb::object value;
};

// Finds the arrays among nested attributes that are no Variables.
void find_arrays(nb::handle level, graph::Path& path, std::vector<ArrayAttribute>& found) {
  const py::RecursionGuard guard(" while looking for arrays");
  for (const auto& [key, value] : py::mapping_items(level)) {
    if (upstream::is_variable(value)) continue;
    path.push_back(key);
    if (py::is_mapping(value)) {
      find_arrays(value, path, found);
    } else if (upstream::is_array(value)) {
      found.push_back({path, value});
    }
    path.pop_back();
  }
}

std::string shape_text(nb::handle shape, nb::handle dtype) {
  return py::utf8(nb::str(dtype)) + py::utf8(nb::repr(shape));
}

void add_array_attributes(nb::dict& variables, const std::vector<ArrayAttribute>& arrays,
                          const LinenLayout& layout, const std::string& where) {
  const upstream::Names& n = upstream::names();
  for (const ArrayAttribute& array : arrays) {
    const LinenLayout::Entry* entry = layout.find(array.path);
    if (entry == nullptr) continue;  // the Linen module has no variable there
    const nb::object shape = upstream::shape_of(array.value);
    const nb::object dtype = py::get(array.value, n.dtype);
    const bool fits = entry->shape.is_valid() && shape.equal(entry->shape) &&
                      nb::str(dtype).equal(nb::str(entry->dtype));
    if (!fits) {
      const std::string expected = entry->shape.is_valid()
                                       ? "an array " + shape_text(entry->shape, entry->dtype)
                                       : "a value that is no array";
      raise_value_error({where + ", " + to_string(*entry), expected,
                         "the array " + shape_text(shape, dtype),
                         "Set a value that fits, or lazy_init with inputs of the new shape."});
    }
    graph::insert_nested(variables, graph::with_collection(entry->collection, array.path),
                         array.value);
  }
}

bool is_same_leaf(nb::handle before, nb::handle after) {
  if (before.is(after)) return true;
  if (upstream::is_jax_array(before) || upstream::is_jax_array(after)) return false;
  const upstream::Facade& f = upstream::facade();
  const nb::object left = f.tree_flatten(upstream::unboxed(before));
  const nb::object right = f.tree_flatten(upstream::unboxed(after));
  if (!nb::object(left[1]).equal(nb::object(right[1]))) return false;
  const auto leaves = py::elements(left[0]);
  const auto others = py::elements(right[0]);
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].is(others[i])) return false;
  }
  return true;
}

// Sorts the leaves of the updates into those that are written in place, and new variables.
class UpdateWriter {
 public:
  UpdateWriter(nb::handle to_nnx, const MayCreate& may_create, const std::string& where)
      : to_nnx_(to_nnx), may_create_(may_create), where_(where) {}

  void add(nb::handle collection, nb::handle given, nb::handle updated) {
    collection_ = collection;
    path_.clear();
    add_level(given, updated);
  }

  void write() {
    if (!new_variables_.empty() && !upstream::may_change_in_current_trace(to_nnx_)) {
      refuse_trace(first_new_path_);
    }
    // The values from before are put back if a later step fails.
    std::vector<std::pair<nb::object, nb::object>> before;
    try {
      if (!new_variables_.empty()) set_variables(to_nnx_, new_variables_, where_);
      for (const auto& [variable, value] : in_place_) {
        before.emplace_back(variable, upstream::stored_value(variable));
        upstream::store_value(variable, value);
      }
    } catch (...) {
      for (const auto& [variable, value] : before) upstream::store_value(variable, value);
      throw;
    }
  }

 private:
  void add_level(nb::handle given, nb::handle updated) {
    const py::RecursionGuard guard(" while reading what a Linen call has changed");
    const bool has_given = given.is_valid() && py::is_mapping(given);
    for (const auto& [key, value] : py::mapping_items(updated)) {
      nb::object before;
      if (has_given && py::contains(given, key)) before = given[key];
      path_.push_back(key);
      if (upstream::is_level(value)) {
        add_level(before, value);
      } else if (!before.is_valid() || !is_same_leaf(before, value)) {
        add_leaf(before.is_valid(), value);
      }
      path_.pop_back();
    }
  }

  void add_leaf(bool was_given, const nb::object& value) {
    const nb::object present = attribute_at(to_nnx_, path_);
    const bool is_variable = present.is_valid() && upstream::is_variable(present);
    if (was_given && is_variable) {
      if (!writability_.may_change(present)) refuse_trace(text());
      in_place_.emplace_back(present, upstream::unboxed(value));
      return;
    }
    if (!was_given && !may_create_(collection_, path_)) {
      const std::string got = !present.is_valid() ? "nothing there"
                              : is_variable ? py::describe(present) + ", of another collection"
                                            : py::describe(present);
      raise_value_error({where_ + ", " + text(), "the Variable that lazy_init made", got,
                         "Set it, as in module." + dotted() + " = nnx." +
                             py::type_name(upstream::type_for_collection(collection_)) +
                             "(value), or name the "
                             "collection in `mutable` to have it made anew."});
    }
    graph::insert_nested(new_variables_, graph::with_collection(collection_, path_), value);
    if (first_new_path_.empty()) first_new_path_ = text();
  }

  std::string text() const { return py::utf8(collection_) + "/" + graph::to_string(path_); }

  std::string dotted() const {
    std::string name;
    for (const nb::object& key : path_) {
      name += name.empty() ? py::utf8(key) : "['" + py::utf8(key) + "']";
    }
    return name;
  }

  [[noreturn]] void refuse_trace(const std::string& variable) const {
    const std::string message =
        where_ + ", " + variable +
        ": expected a trace that may change the variable, got one in which the module is closed "
        "over. Pass the module as an argument of the transformation, or call it with mutable=False "
        "if nothing has to change.";
    PyErr_SetString(upstream::facade().trace_context_error.ptr(), message.c_str());
    throw nb::python_error();
  }

  nb::handle to_nnx_;
  const MayCreate& may_create_;
  const std::string& where_;
  nb::handle collection_;
  graph::Path path_;
  Writability writability_;
  std::vector<std::pair<nb::object, nb::object>> in_place_;
  nb::dict new_variables_;
  std::string first_new_path_;
};

}  // namespace

GivenVariables given_variables_of(nb::handle to_nnx, const std::function<LinenLayout()>& layout_of,
                                  const std::string& where) {
  const nb::dict attributes = state_attributes(to_nnx);
  GivenVariables given;
  Writability writability;
  std::map<std::string, bool> may_change;  // by collection
  given.variables = variables_for_call(attributes, [&](nb::handle collection, nb::handle variable) {
    if (collection.equal(upstream::names().params)) return;
    bool& all = may_change.try_emplace(py::utf8(collection), true).first->second;
    all = all && writability.may_change(variable);
  });
  std::vector<ArrayAttribute> arrays;
  graph::Path path;
  find_arrays(attributes, path, arrays);
  if (!arrays.empty()) add_array_attributes(given.variables, arrays, layout_of(), where);
  nb::list filter;
  for (const auto& item : py::dict_items(given.variables)) {
    if (item.first.equal(upstream::names().params) || is_filled_on_request(item.first)) continue;
    const auto known = may_change.find(py::utf8(item.first));
    if (known == may_change.end() || known->second) {
      filter.append(item.first);
    } else {
      given.not_writable.push_back(known->first);
    }
  }
  given.default_filter = nb::len(filter) == 0 ? nb::object(nb::bool_(false)) : nb::object(filter);
  return given;
}

void write_updates(nb::handle to_nnx, const nb::dict& given, nb::handle updates,
                   const MayCreate& may_create, const std::string& where) {
  UpdateWriter writer(to_nnx, may_create, where);
  for (const auto& [collection, updated] : py::mapping_items(updates)) {
    writer.add(collection, py::dict_get(given, collection), updated);
  }
  writer.write();
}

nb::object attribute_at(nb::handle to_nnx, const graph::Path& path) {
  nb::object at = py::instance_dict(to_nnx);
  for (const nb::object& key : path) {
    if (!py::is_mapping(at) || !py::contains(at, key)) return {};
    at = at[key];
  }
  return at;
}

}  // namespace nnx_wrappers::bridge
