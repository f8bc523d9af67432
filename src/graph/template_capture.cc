// Template::capture: the nodes of a template from a live module graph.
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "graph/local_class.h"
#include "graph/static_value.h"
#include "graph/template.h"
#include "graph/template_node.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/identity_set.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/instance.h"
#include "upstream/leaked.h"
#include "upstream/names.h"
#include "upstream/pytree_state.h"
#include "upstream/variable.h"

namespace nnx_wrappers::graph {

namespace {

bool is_node(nb::handle value) {
  const upstream::NodeKind kind = upstream::kind_of(value);
  return kind == upstream::NodeKind::kPytree || kind == upstream::NodeKind::kVariable ||
         kind == upstream::NodeKind::kGraphNode;
}

// True for a pytree that is a module or a Variable, or has one inside: its identity would be lost.
bool holds_node(nb::handle value) {
  if (upstream::is_array(value) || upstream::is_tracer(value)) return false;
  nb::dict stop_at_nodes;
  stop_at_nodes["is_leaf"] = nb::cpp_function(is_node, nb::arg().none());
  const nb::object flat =
      py::call(upstream::facade().tree_flatten, nb::make_tuple(value), stop_at_nodes);
  return std::ranges::any_of(py::elements(flat[0]), is_node);
}

}  // namespace

class Capture {
 public:
  Capture(Template& made, const Shared& shared, const HowKept& how_kept, Captured& captured,
          const std::vector<nb::object>& given)
      : made_(made), shared_(shared), how_kept_(how_kept), captured_(captured) {
    for (const nb::object& node : given) given_.emplace(node.ptr(), given_.size());
  }

  size_t visit(nb::handle object, upstream::NodeKind kind) {
    const py::RecursionGuard guard(" while capturing an NNX module graph");
    if (const auto given = given_.find(object.ptr()); given != given_.end())
      return given_node(given->second);
    if (upstream::has_identity(kind)) {
      const auto known = seen_.find(object.ptr());
      if (known != seen_.end()) return known->second;
      remember(object, made_.nodes_.size());
    } else if (kind == upstream::NodeKind::kList || kind == upstream::NodeKind::kDict) {
      // For Flax these are not shared, but a change in one place would be seen in the other.
      if (!remember(object, made_.nodes_.size())) refuse("a list or dict in a second place");
    }
    const size_t index = made_.nodes_.size();
    made_.nodes_.emplace_back();
    Template::Node node;
    node.kind = kind;
    switch (kind) {
      case upstream::NodeKind::kLeaf:
        node.slot = add_slot({}, object);
        break;
      case upstream::NodeKind::kVariable:
        capture_variable(node, object);
        break;
      case upstream::NodeKind::kArrayRef:
        refuse("an array ref");
      case upstream::NodeKind::kPytree:
        capture_pytree(node, object);
        break;
      case upstream::NodeKind::kList:
      case upstream::NodeKind::kTuple:
      case upstream::NodeKind::kDict:
        capture_container(node, object);
        break;
      case upstream::NodeKind::kGraphNode:
      case upstream::NodeKind::kPytreeNode:
        capture_registered(node, object);
        break;
    }
    made_.nodes_[index] = std::move(node);
    return index;
  }

  std::vector<nb::object> seen() && { return std::move(kept_); }

  // Captures the contents of the closures' cells. Called once, after `visit`.
  void capture_cells() {
    in_closures_ = true;
    // The vector grows during the loop. NOLINTNEXTLINE(modernize-loop-convert)
    for (size_t i = 0; i < cells_.size(); ++i) {
      const Cell cell = cells_[i];
      path_ = cell.path;
      const nb::object contents = py::cell_contents(cell.object);
      if (!contents.is_valid()) continue;
      const Attribute held = cell_attribute(contents);
      made_.nodes_[cell.node].attributes.push_back(held);
    }
  }

 private:
  using Attribute = Template::Node::Attribute;

  [[noreturn]] void refuse(const std::string& what) const {
    throw Refusal(what + " at " + to_string(path_));
  }

  // Returns false if the object was seen before. Owns it, so that no other gets its address.
  bool remember(nb::handle object, size_t index) {
    const bool is_new = seen_.emplace(object.ptr(), index).second;
    if (is_new) kept_.push_back(nb::borrow(object));
    return is_new;
  }

  size_t given_node(size_t position) {
    Template::Node node;
    node.form = Template::Node::kGiven;
    node.slot = position;
    made_.nodes_.push_back(std::move(node));
    return made_.nodes_.size() - 1;
  }

  size_t add_slot(nb::object type, nb::handle held) {
    const nb::object value = in_closures_ ? upstream::without_leaked(held) : nb::borrow(held);
    bool traced = upstream::is_tracer(value);
    if (!upstream::is_jax_array(value)) {
      if (holds_node(value)) refuse("a value that holds a node");
      for (const nb::object& leaf : py::elements(upstream::facade().tree_flatten(value)[0])) {
        traced = traced || upstream::is_tracer(leaf);
        if (upstream::is_array_ref(leaf)) refuse("an array ref");
      }
    }
    made_.slots_.push_back({path_, std::move(type), traced ? nb::object() : value, in_closures_});
    made_.slots_.back().is_shared = how_kept_({}, {}, value) == Kept::kItself;
    captured_.values.push_back(value);
    return made_.slots_.size() - 1;
  }

  void require_reusable_class(nb::handle type) {
    if (shared_.contains(type) || reusable_classes_.contains(type)) return;
    if (is_call_local(type) || shared_.is_made(type))
      refuse(py::describe(type) + ", which the constructor made,");
    reusable_classes_.insert(type);
  }

  void require_made_in_this_trace(nb::handle object) const {
    const nb::object trace_state = upstream::trace_state_of(object);
    if (!trace_state.is_valid()) refuse(py::describe(object) + " whose constructor did not run");
    if (current_trace_.has_made(trace_state)) return;
    if (in_closures_ && upstream::is_leaked(trace_state)) return;
    refuse("a module or Variable that the constructor did not make");
  }

  // Every nnx.Pytree has a TraceState, whatever its own flatten function returns.
  void add_pytree(nb::handle object) {
    require_made_in_this_trace(object);
    if (!in_closures_) captured_.pytrees.push_back(nb::borrow(object));
  }

  void capture_variable(Template::Node& node, nb::handle object) {
    if (!upstream::is_plain_variable(object)) refuse("a hijax variable");
    require_made_in_this_trace(object);
    node.type = nb::borrow(object.type());
    require_reusable_class(node.type);
    for (const auto& [name, value] : py::dict_items(upstream::metadata(object))) {
      node.attributes.push_back(static_attribute(object, name, value));
    }
    const bool shares_all = std::ranges::all_of(
        node.attributes, [](const Attribute& item) { return item.source == Attribute::kShared; });
    if (shares_all) {
      nb::dict metadata;
      for (const Attribute& item : node.attributes) metadata[item.name] = item.value;
      node.shared_metadata = std::move(metadata);
      node.attributes.clear();
    }
    node.slot = add_slot(node.type, upstream::raw_value(object));
  }

  Attribute static_attribute(nb::handle owner, const nb::object& name, const nb::object& value) {
    const StaticPolicy policy = policy_of(value, shared_);
    const Kept kept =
        policy == StaticPolicy::kShare ? Kept::kItself : how_kept_(owner, name, value);
    if (kept == Kept::kItself) return {name, Attribute::kShared, value, 0};
    if (kept == Kept::kMoved) return {name, Attribute::kMoved, value, 0};
    if (policy == StaticPolicy::kRefuse) {
      if (PyFunction_Check(value.ptr())) return {name, Attribute::kChild, {}, closure_node(value)};
      refuse("the static attribute '" + py::utf8(name) + "' (" + py::describe(value) + ")");
    }
    return copied(name, value);
  }

  Attribute copied(const nb::object& name, const nb::object& value) {
    add_kept(value, shared_, made_.kept_);
    return {name, Attribute::kCopied, value, 0};
  }

  // The node of a closure. The contents of its cells are captured after the whole graph, so that
  // nodes have the paths that Flax gives them.
  size_t closure_node(const nb::object& function) {
    const auto known = seen_.find(function.ptr());
    if (known != seen_.end()) return known->second;
    if (py::assigns_to_closure(function)) refuse("a closure that assigns to its variables");
    if (policy_of_extras(function, shared_) != StaticPolicy::kShare)
      refuse("a closure with a default or an attribute that may change");
    const size_t index = made_.nodes_.size();
    remember(function, index);
    Template::Node node;
    node.form = Template::Node::kFunction;
    std::vector<nb::object> empty;
    made_.nodes_.emplace_back();
    for (const nb::object& cell : py::cells_of(function)) {
      if (remember(cell, made_.nodes_.size())) {
        cells_.push_back({made_.nodes_.size(), cell, path_});
        made_.nodes_.emplace_back();
        made_.nodes_.back().form = Template::Node::kCell;
      }
      node.attributes.push_back({{}, Attribute::kChild, {}, seen_.at(cell.ptr())});
      empty.push_back(py::empty_cell());
    }
    node.function = py::with_cells(function, empty);
    made_.nodes_[index] = std::move(node);
    return index;
  }

  Attribute cell_attribute(const nb::object& contents) {
    const auto known = seen_.find(contents.ptr());
    if (known != seen_.end()) return {{}, Attribute::kChild, {}, known->second};
    if (upstream::is_array(contents)) {
      return {{}, Attribute::kChild, {}, visit(contents, upstream::NodeKind::kLeaf)};
    }
    const StaticPolicy policy = policy_of(contents, shared_);
    if (policy == StaticPolicy::kShare) return {{}, Attribute::kShared, contents, 0};
    const bool is_container = PyList_Check(contents.ptr()) || PyDict_Check(contents.ptr()) ||
                              PyAnySet_Check(contents.ptr()) || PyTuple_Check(contents.ptr());
    if (policy == StaticPolicy::kCopy && !is_container) return copied({}, contents);
    if (PyFunction_Check(contents.ptr())) {
      return {{}, Attribute::kChild, {}, closure_node(contents)};
    }
    // A node that is no part of the graph: for example the module inside an nnx.vmap, which has
    // returned the module that is part of the graph.
    const upstream::NodeKind kind = upstream::kind_of(contents);
    if (kind == upstream::NodeKind::kPytree || kind == upstream::NodeKind::kVariable) {
      return {{}, Attribute::kChild, {}, visit(contents, kind)};
    }
    refuse("a closure over " + py::describe(contents));
  }

  using Children = std::unordered_map<std::string, size_t>;

  // Visits the children in Flax's order, so that a shared node gets the path that Flax gives it.
  // Returns their nodes by the texts of their keys.
  Children visit_children(nb::handle node, upstream::NodeKind kind) {
    Children found;
    for (const upstream::Child& child : upstream::children_of(node, kind)) {
      if (child.value.is_none()) continue;
      path_.push_back(child.key);
      const size_t index = visit(child.value, child.kind);
      if (!found.emplace(py::utf8(child.key), index).second) refuse("a second key of one spelling");
      path_.pop_back();
    }
    return found;
  }

  Attribute attribute(nb::handle owner, const nb::object& name, const nb::object& value,
                      const Children& children) {
    const auto child = children.find(py::utf8(name));
    if (child == children.end()) return static_attribute(owner, name, value);
    return {name, Attribute::kChild, {}, child->second};
  }

  void capture_pytree(Template::Node& node, nb::handle object) {
    node.type = nb::borrow(object.type());
    require_reusable_class(node.type);
    add_pytree(object);
    const Children children = visit_children(object, node.kind);
    for (const auto& [name, value] : py::dict_items(py::instance_dict(object))) {
      if (upstream::is_pytree_state_name(name)) {
        node.attributes.push_back({name, Attribute::kState, value, 0});
      } else {
        node.attributes.push_back(attribute(object, name, value, children));
      }
    }
  }

  void capture_container(Template::Node& node, nb::handle object) {
    std::vector<py::Item> items;
    if (node.kind == upstream::NodeKind::kDict) {
      items = py::dict_items(object);
    } else {
      size_t index = 0;
      for (nb::object& element : py::elements(object)) {
        items.emplace_back(nb::int_(index++), std::move(element));
      }
    }
    add_items(node, object, items);
  }

  void add_items(Template::Node& node, nb::handle object, const std::vector<py::Item>& items) {
    const Children children = visit_children(object, node.kind);
    for (const auto& [key, value] : items) {
      node.attributes.push_back(attribute(object, key, value, children));
    }
  }

  void capture_registered(Template::Node& node, nb::handle object) {
    if (object.is_none()) return;
    if (upstream::is_pytree(object)) add_pytree(object);
    const upstream::Flattened flattened = upstream::flatten_by_flax(object);
    const nb::object auxiliary = upstream::auxiliary_data(flattened.metadata);
    if (policy_of(auxiliary, shared_) != StaticPolicy::kShare)
      refuse(py::describe(object) + " with auxiliary data that may change");
    node.type = nb::borrow(object.type());
    require_reusable_class(node.type);
    node.impl = flattened.impl;
    node.metadata = flattened.metadata;
    add_items(node, object, flattened.items);
  }

  Template& made_;
  const Shared& shared_;
  const HowKept& how_kept_;
  Captured& captured_;
  std::unordered_map<PyObject*, size_t> given_;  // the positions of given nodes
  Path path_;
  std::unordered_map<PyObject*, size_t> seen_;  // the nodes of objects
  std::vector<nb::object> kept_;                // owns the keys of seen_
  struct Cell {
    size_t node;
    nb::object object;
    Path path;  // of the attribute whose value is the closure
  };
  std::vector<Cell> cells_;
  py::IdentitySet reusable_classes_;
  const upstream::CurrentTrace current_trace_;
  bool in_closures_ = false;
};

Template Template::capture(nb::handle root, const Shared& shared, const HowKept& how_kept,
                           Captured& captured, const std::vector<nb::object>& given) {
  Template made;
  Capture capture(made, shared, how_kept, captured, given);
  capture.visit(root, upstream::kind_of(root));
  capture.capture_cells();
  captured.nodes = std::move(capture).seen();
  return made;
}

}  // namespace nnx_wrappers::graph
