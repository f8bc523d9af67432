#include "nnx_wrappers/collections.h"

#include <string>
#include <vector>

#include "bridge/conflicts.h"
#include "bridge/variable_make.h"
#include "flax/linen.h"
#include "flax/variable.h"
#include "graph/path.h"
#include "graph/state_tree.h"
#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/variables.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

constexpr const char* kToAttrs = "linen_vars_to_nnx_attrs";
constexpr const char* kToVars = "nnx_attrs_to_linen_vars";

void require_mapping(nb::handle object, const std::string& where, const std::string& expected,
                     const std::string& remedy) {
  if (!py::is_mapping(object)) raise_type_error({where, expected, py::describe(object), remedy});
}

// Turns each leaf of one collection into a Variable inside `attrs`.
void add_collection(nb::dict& attrs, nb::handle collection, nb::handle variables,
                    graph::Path& path) {
  const py::RecursionGuard guard(" while reading a tree of Linen variables");
  auto items = py::mapping_items(variables);
  py::sort_by_key_if_comparable(items);
  for (const auto& [key, value] : items) {
    path.push_back(key);
    if (flax::is_level(value)) {
      add_collection(attrs, collection, value, path);
    } else {
      const std::string where = std::string(kToAttrs) + ", " +
                                nb::cast<std::string>(nb::str(collection)) + "/" +
                                graph::to_string(path);
      if (!graph::insert_nested(attrs, path, bridge::make_variable(collection, value, where))) {
        throw InternalError("a conflict of paths that was not found before");
      }
    }
    path.pop_back();
  }
}

void add_attribute(nb::dict& variables, nb::handle value, graph::Path& path) {
  const py::RecursionGuard guard(" while reading nested NNX attributes");
  if (flax::is_variable(value)) {
    const nb::object type = flax::variable_type(value);
    const nb::object collection = flax::collection_of(type);
    if (!collection.is_valid()) {
      raise_value_error({std::string(kToVars) + ", " + graph::to_string(path),
                         "a Variable whose type has a collection name",
                         py::describe(type) + ", which is not registered",
                         "Register it with nnx.register_variable_name('name', type)."});
    }
    graph::Path full{collection};
    full.insert(full.end(), path.begin(), path.end());
    if (!graph::insert_nested(variables, full, to_linen_var(value))) {
      raise_value_error({std::string(kToVars) + ", " + graph::to_string(path),
                         "one Variable for each path of collection '" +
                             nb::cast<std::string>(nb::str(collection)) + "'",
                         "a second one", "Give each attribute a path of its own."});
    }
    return;
  }
  if (!py::is_mapping(value)) return;
  for (const auto& [key, below] : py::mapping_items(value)) {
    path.push_back(key);
    add_attribute(variables, below, path);
    path.pop_back();
  }
}

}  // namespace

nb::dict linen_vars_to_nnx_attrs(nb::handle variables) {
  require_mapping(variables, kToAttrs, "a mapping of collections, like {'params': {...}}",
                  "Pass what module.init returns.");
  auto collections = py::mapping_items(variables);
  py::sort_by_key_if_comparable(collections);
  graph::StateTree tree;
  for (const auto& [name, collection] : collections) {
    const std::string where = std::string(kToAttrs) + ", " + nb::cast<std::string>(nb::str(name));
    if (!nb::isinstance<nb::str>(name)) {
      raise_type_error({where, "the name of a collection (a str)", py::describe(name),
                        "Use 'params', 'batch_stats' or another collection name."});
    }
    require_mapping(collection, where, "a mapping of variables",
                    "Put the variable into its collection under a name.");
    tree.add_collection(name, collection);
  }
  bridge::refuse_conflicts(tree, kToAttrs);
  bridge::refuse_duplicates(tree, kToAttrs);
  nb::dict attrs;
  graph::Path path;
  for (const auto& [name, collection] : collections) add_collection(attrs, name, collection, path);
  return attrs;
}

nb::dict nnx_attrs_to_linen_vars(nb::handle attrs) {
  require_mapping(attrs, kToVars, "a mapping of attributes",
                  "Pass a dict of Variables, or nnx.state(module).");
  nb::dict variables;
  graph::Path path;
  for (const auto& [key, value] : py::mapping_items(attrs)) {
    path.push_back(key);
    add_attribute(variables, value, path);
    path.pop_back();
  }
  return variables;
}

}  // namespace nnx_wrappers
