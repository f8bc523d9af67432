#include "nnx_wrappers/collections.h"

#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bridge/convert/leaf_converter.h"
#include "bridge/convert/leaf_for_call.h"
#include "bridge/convert/path_conflicts.h"
#include "graph/path.h"
#include "graph/state_tree.h"
#include "nnx_wrappers/errors.h"
#include "nnx_wrappers/variables.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/dialect/wrapper.h"
#include "upstream/linen.h"
#include "upstream/variable.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

constexpr const char* kToAttrs = "linen_vars_to_nnx_attrs";
constexpr const char* kToVars = "nnx_attrs_to_linen_vars";

void require_mapping(nb::handle object, const std::string& where, const std::string& expected,
                     const std::string& remedy) {
  if (!py::is_mapping(object)) raise_type_error({where, expected, py::describe(object), remedy});
}

// The last key of a path, linked to the step above it. The path itself is made for errors only.
struct Step {
  const Step* above;
  nb::handle key;

  graph::Path path() const {
    graph::Path keys;
    if (above != nullptr) keys = above->path();
    keys.push_back(nb::borrow(key));
    return keys;
  }
};

// Merges Linen's collections level by level into nested attributes.
class ToAttributes {
 public:
  explicit ToAttributes(nb::handle collection) : collection_(collection) {}

  // Returns false, and leaves `attrs` incomplete, if `attrs` has a path already.
  bool add(nb::dict& attrs, nb::handle variables, const Step* above = nullptr) {
    const py::RecursionGuard guard(" while reading a tree of Linen variables");
    auto items = py::mapping_items(variables);
    py::sort_by_key_if_comparable(items);
    for (const auto& [key, value] : items) {
      const Step step{above, key};
      nb::object present = py::dict_get(attrs, key);
      if (!upstream::is_level(value)) {
        if (present.is_valid()) return false;
        if (upstream::is_stored_graph_def(value)) {
          attrs[key] = value;
          continue;
        }
        if (!converter_) converter_.emplace(collection_, [this] { return where(nullptr); });
        attrs[key] = converter_->convert(value, [&] { return where(&step); });
        continue;
      }
      const bool is_below = present.is_valid() && PyDict_CheckExact(present.ptr()) != 0;
      nb::dict below = is_below ? nb::borrow<nb::dict>(present) : nb::dict();
      if (!add(below, value, &step)) return false;
      if (below.size() == 0) continue;
      if (present.is_valid() && !is_below) return false;
      attrs[key] = below;
    }
    return true;
  }

 private:
  std::string where(const Step* step) const {
    std::string text = std::string(kToAttrs) + ", " + py::utf8(collection_);
    return step == nullptr ? text : text + "/" + graph::to_string(step->path());
  }

  nb::handle collection_;
  std::optional<bridge::LeafConverter> converter_;  // made for the first leaf
};

// Sorts nested attributes into collections.
class ToCollections {
 public:
  using Visit = std::function<void(nb::handle collection, nb::handle variable)>;

  explicit ToCollections(nb::object (*leaf_of)(nb::handle), Visit visit = {})
      : leaf_of_(leaf_of), visit_(std::move(visit)) {}

  void add(nb::handle attrs) {
    Level root{nullptr, {}, {}};
    add_level(attrs, nullptr, root);
  }

  const nb::dict& variables() const { return variables_; }

 private:
  // A level of the attributes, with the dicts for it in collections that have been needed so far.
  struct Level {
    Level* above;
    nb::handle key;
    std::vector<std::pair<nb::handle, nb::dict>> of_collection;
  };

  void add_level(nb::handle attrs, const Step* above, Level& level) {
    const py::RecursionGuard guard(" while reading nested NNX attributes");
    const bool may_repeat = PyDict_CheckExact(attrs.ptr()) == 0;  // the items() of a user's class
    nb::set keys;
    for (const auto& [key, value] : py::mapping_items(attrs)) {
      const Step step{above, key};
      if (may_repeat && keys.contains(key)) refuse_second(step);
      if (may_repeat) keys.add(key);
      if (upstream::is_variable(value)) {
        add_variable(value, step, level);
      } else if (upstream::is_stored_graph_def(value)) {
        dict_in_collection(level, graph_defs_)[step.key] = value;
      } else if (py::is_mapping(value)) {
        Level below{&level, key, {}};
        add_level(value, &step, below);
      }
    }
  }

  void add_variable(nb::handle variable, const Step& step, Level& level) {
    const nb::handle collection = collection_of(upstream::variable_type(variable), step);
    const nb::object leaf = leaf_of_(variable);
    if (visit_) visit_(collection, variable);
    dict_in_collection(level, collection)[step.key] = leaf;
  }

  [[noreturn]] static void refuse_second(const Step& step) {
    raise_value_error({where(step), "one attribute for each path", "a second one",
                       "Give each attribute a path of its own."});
  }

  // The dict for this level in a collection, made if it is missing.
  nb::dict& dict_in_collection(Level& level, nb::handle collection) {
    for (auto& [name, dict] : level.of_collection) {
      if (name.is(collection)) return dict;
    }
    nb::dict& above =
        level.above == nullptr ? variables_ : dict_in_collection(*level.above, collection);
    const nb::handle key = level.above == nullptr ? collection : level.key;
    const nb::object present = py::dict_get(above, key);
    nb::dict made = present.is_valid() ? nb::borrow<nb::dict>(present) : nb::dict();
    if (!present.is_valid()) above[key] = made;
    level.of_collection.emplace_back(collection, made);
    return level.of_collection.back().second;
  }

  nb::handle collection_of(const nb::object& type, const Step& step) {
    const auto known = collections_.find(type.ptr());
    if (known != collections_.end()) return known->second.name;
    nb::object name = upstream::collection_of(type);
    if (!name.is_valid()) {
      raise_value_error({where(step), "a Variable whose type has a collection name",
                         py::describe(type) + ", which is not registered",
                         "Register it with nnx.register_variable_name('name', type)."});
    }
    return collections_.emplace(type.ptr(), Named{type, std::move(name)}).first->second.name;
  }

  static std::string where(const Step& step) {
    return std::string(kToVars) + ", " + graph::to_string(step.path());
  }

  struct Named {
    nb::object type;  // owned, so that no other type gets its address, which is the key
    nb::object name;
  };

  nb::object (*leaf_of_)(nb::handle);
  Visit visit_;
  nb::str graph_defs_{"nnx"};  // the collection of graph definitions
  nb::dict variables_;
  std::unordered_map<PyObject*, Named> collections_;
};

// Throws ValueError for a path in two collections, or a path that is a prefix of another.
[[noreturn]] void raise_conflict(const std::vector<py::Item>& collections) {
  graph::StateTree tree;
  for (const auto& [name, collection] : collections) tree.add_collection(name, collection);
  bridge::refuse_prefix_paths(tree, kToAttrs);
  bridge::refuse_duplicates(tree, kToAttrs);
  raise_value_error({kToAttrs, "mappings with the same items each time they are read",
                     "mappings whose items have changed meanwhile", "Pass plain dicts."});
}

}  // namespace

nb::dict linen_vars_to_nnx_attrs(nb::handle variables) {
  require_mapping(variables, kToAttrs, "a mapping of collections, like {'params': {...}}",
                  "Pass what module.init returns.");
  auto collections = py::mapping_items(variables);
  py::sort_by_key_if_comparable(collections);
  for (const auto& [name, collection] : collections) {
    const auto where = [&, key = name] { return std::string(kToAttrs) + ", " + py::utf8(key); };
    if (!nb::isinstance<nb::str>(name)) {
      raise_type_error({where(), "the name of a collection (a str)", py::describe(name),
                        "Use 'params', 'batch_stats' or another collection name."});
    }
    require_mapping(collection, where(), "a mapping of variables",
                    "Put the variable into its collection under a name.");
  }
  nb::dict attrs;
  for (const auto& [name, collection] : collections) {
    if (!ToAttributes(name).add(attrs, collection)) raise_conflict(collections);
  }
  return attrs;
}

nb::dict nnx_attrs_to_linen_vars(nb::handle attrs) {
  require_mapping(attrs, kToVars, "a mapping of attributes",
                  "Pass a dict of Variables, or nnx.state(module).");
  ToCollections result(to_linen_var);
  result.add(attrs);
  return result.variables();
}

nb::dict bridge::variables_for_call(nb::handle attributes, const ToCollections::Visit& visit) {
  ToCollections result(leaf_for_call, visit);
  result.add(attributes);
  return result.variables();
}

}  // namespace nnx_wrappers
