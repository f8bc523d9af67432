#include "graph/template.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "flax/array.h"
#include "flax/facade.h"
#include "flax/instance.h"
#include "flax/variable.h"
#include "graph/static_value.h"
#include "graph/template_node.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/recursion.h"

namespace nnx_wrappers::graph {

Template::Template() = default;
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

const std::vector<Slot>& Template::slots() const { return slots_; }

class Capture {
 public:
  Capture(Template& made, const std::vector<nb::object>& shared, const MayShare& may_share,
          std::vector<nb::object>& values)
      : made_(made), shared_(shared), may_share_(may_share), values_(values) {}

  size_t visit(nb::handle object, flax::NodeKind kind) {
    const py::RecursionGuard guard(" while capturing an NNX module graph");
    if (flax::has_identity(kind)) {
      const auto known = seen_.find(object.ptr());
      if (known != seen_.end()) return known->second;
      seen_.emplace(object.ptr(), made_.nodes_.size());
    }
    const size_t index = made_.nodes_.size();
    made_.nodes_.emplace_back();
    Template::Node node;
    node.kind = kind;
    switch (kind) {
      case flax::NodeKind::kLeaf:
        node.slot = add_slot({}, object);
        break;
      case flax::NodeKind::kVariable:
        variable(node, object);
        break;
      case flax::NodeKind::kArrayRef:
        refuse("an array ref");
      case flax::NodeKind::kPytree:
        pytree(node, object);
        break;
      case flax::NodeKind::kList:
      case flax::NodeKind::kTuple:
      case flax::NodeKind::kDict:
        container(node, object);
        break;
      case flax::NodeKind::kGraphNode:
      case flax::NodeKind::kPytreeNode:
        by_flax(node, object);
        break;
    }
    made_.nodes_[index] = std::move(node);
    return index;
  }

 private:
  using Attribute = Template::Node::Attribute;

  [[noreturn]] void refuse(const std::string& what) const {
    throw Refusal(what + " at " + to_string(path_));
  }

  size_t add_slot(nb::object type, nb::handle value) {
    bool traced = false;
    for (const nb::object& leaf : py::elements(flax::facade().tree_flatten(value)[0])) {
      traced = traced || flax::is_tracer(leaf);
      if (flax::is_array_ref(leaf)) refuse("an array ref");
    }
    made_.slots_.push_back({path_, std::move(type), traced ? nb::object() : nb::borrow(value)});
    values_.push_back(nb::borrow(value));
    return made_.slots_.size() - 1;
  }

  void require_made_here(nb::handle trace_state) const {
    if (!nb::cast<bool>(nb::bool_(trace_state.attr("is_valid")()))) {
      refuse("a module or Variable that the constructor did not make");
    }
  }

  void variable(Template::Node& node, nb::handle object) {
    if (!flax::is_plain_variable(object)) refuse("a hijax variable");
    require_made_here(py::get(object, nb::str("_trace_state")));
    node.type = nb::borrow(object.type());
    for (const auto& [name, value] : py::dict_items(flax::metadata(object))) {
      node.attributes.push_back(static_attribute(object, name, value));
    }
    const bool shares_all = std::ranges::all_of(
        node.attributes, [](const Attribute& item) { return item.how == Attribute::kShared; });
    if (shares_all) {
      nb::dict metadata;
      for (const Attribute& item : node.attributes) metadata[item.name] = item.value;
      node.shared_metadata = std::move(metadata);
      node.attributes.clear();
    }
    node.slot = add_slot(node.type, flax::raw_value(object));
  }

  Attribute static_attribute(nb::handle owner, const nb::object& name,
                             const nb::object& value) const {
    Keeping keeping = keeping_of(value, shared_);
    if (keeping == Keeping::kRefuse && may_share_(owner, name, value)) keeping = Keeping::kShare;
    if (keeping == Keeping::kRefuse) {
      refuse("the static attribute '" + nb::cast<std::string>(nb::str(name)) + "' (" +
             py::describe(value) + ")");
    }
    return {name, keeping == Keeping::kCopy ? Attribute::kCopied : Attribute::kShared, value, 0};
  }

  using Children = std::unordered_map<std::string, size_t>;

  // Visits the children in Flax's order, in which a shared node gets its path, and
  // returns their nodes by the text of their key.
  Children visit_children(nb::handle node, flax::NodeKind kind) {
    Children found;
    for (const flax::Child& child : flax::children_of(node, kind)) {
      if (child.value.is_none()) continue;
      path_.push_back(child.key);
      found.emplace(nb::cast<std::string>(nb::str(child.key)), visit(child.value, child.kind));
      path_.pop_back();
    }
    return found;
  }

  Attribute attribute(nb::handle owner, const nb::object& name, const nb::object& value,
                      const Children& children) const {
    const auto child = children.find(nb::cast<std::string>(nb::str(name)));
    if (child == children.end()) return static_attribute(owner, name, value);
    return {name, Attribute::kChild, {}, child->second};
  }

  void pytree(Template::Node& node, nb::handle object) {
    const py::Names& n = py::names();
    node.type = nb::borrow(object.type());
    const Children children = visit_children(object, node.kind);
    for (const auto& [name, value] : py::dict_items(py::instance_dict(object))) {
      if (name.is(n.pytree_state)) {
        require_made_here(value.attr("trace_state"));
        node.attributes.push_back({name, Attribute::kState, value, 0});
      } else {
        node.attributes.push_back(attribute(object, name, value, children));
      }
    }
  }

  void container(Template::Node& node, nb::handle object) {
    std::vector<py::Item> items;
    if (node.kind == flax::NodeKind::kDict) {
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

  void by_flax(Template::Node& node, nb::handle object) {
    if (object.is_none()) return;
    const flax::Flattened flattened = flax::flatten_by_flax(object);
    node.type = nb::borrow(object.type());
    node.impl = flattened.impl;
    node.metadata = flattened.metadata;
    add_items(node, object, flattened.items);
  }

  Template& made_;
  const std::vector<nb::object>& shared_;
  const MayShare& may_share_;
  std::vector<nb::object>& values_;
  Path path_;
  std::unordered_map<PyObject*, size_t> seen_;
};

Template Template::capture(nb::handle root, const std::vector<nb::object>& shared,
                           const MayShare& may_share, std::vector<nb::object>& values) {
  Template made;
  Capture(made, shared, may_share, values).visit(root, flax::kind_of(root));
  return made;
}

class Instantiation {
 public:
  Instantiation(const Template& source, const std::vector<nb::object>& values)
      : nodes_(source.nodes_), values_(values), made_(source.nodes_.size()) {}

  nb::object make(size_t index) {
    const py::RecursionGuard guard(" while making an NNX module");
    if (made_[index].is_valid()) return made_[index];
    const Template::Node& node = nodes_[index];
    switch (node.kind) {
      case flax::NodeKind::kLeaf:
        return made_[index] = values_.at(node.slot);
      case flax::NodeKind::kVariable:
        return made_[index] = variable(node);
      case flax::NodeKind::kPytree:
        return pytree(node, index);
      case flax::NodeKind::kList:
      case flax::NodeKind::kTuple: {
        nb::list elements;
        for (const auto& attribute : node.attributes) elements.append(value_of(attribute));
        return made_[index] = node.kind == flax::NodeKind::kList ? nb::object(elements)
                                                                 : nb::object(nb::tuple(elements));
      }
      case flax::NodeKind::kDict: {
        nb::dict items;
        for (const auto& attribute : node.attributes) items[attribute.name] = value_of(attribute);
        return made_[index] = items;
      }
      case flax::NodeKind::kGraphNode:
        made_[index] = flax::create_empty(node.impl, node.metadata);
        flax::fill(node.impl, made_[index], pairs(node));
        return made_[index];
      case flax::NodeKind::kPytreeNode:
        if (!node.impl.is_valid()) return made_[index] = nb::none();
        return made_[index] = flax::unflatten(node.impl, pairs(node), node.metadata);
      case flax::NodeKind::kArrayRef:
        break;
    }
    throw InternalError("a template with a node that cannot be made");
  }

 private:
  using Attribute = Template::Node::Attribute;

  nb::object value_of(const Attribute& attribute) {
    switch (attribute.how) {
      case Attribute::kShared:
        return attribute.value;
      case Attribute::kCopied:
        return copy_static(attribute.value);
      case Attribute::kState:
        return flax::new_pytree_state(attribute.value, trace_state());
      case Attribute::kChild:
        return make(attribute.child);
    }
    throw InternalError("an attribute of no kind");
  }

  nb::list pairs(const Template::Node& node) {
    nb::list made;
    for (const auto& attribute : node.attributes) {
      made.append(nb::make_tuple(attribute.name, value_of(attribute)));
    }
    return made;
  }

  nb::object variable(const Template::Node& node) {
    nb::dict metadata =
        node.shared_metadata.is_valid() ? py::copy_dict(node.shared_metadata) : nb::dict();
    for (const auto& attribute : node.attributes) metadata[attribute.name] = value_of(attribute);
    return flax::new_plain_variable(node.type, values_.at(node.slot), metadata, trace_state());
  }

  // Known before its attributes are made, so that they may refer back to it.
  nb::object pytree(const Template::Node& node, size_t index) {
    nb::object object = flax::new_empty(node.type);
    made_[index] = object;
    for (const auto& attribute : node.attributes) {
      flax::set_raw(object, attribute.name, value_of(attribute));
    }
    return object;
  }

  // One for the whole graph: it says which trace made it, and never changes.
  const nb::object& trace_state() {
    if (!trace_state_.is_valid()) trace_state_ = flax::facade().trace_state();
    return trace_state_;
  }

  const std::vector<Template::Node>& nodes_;
  const std::vector<nb::object>& values_;
  std::vector<nb::object> made_;
  nb::object trace_state_;
};

nb::object Template::instantiate(const std::vector<nb::object>& values) const {
  return Instantiation(*this, values).make(0);
}

}  // namespace nnx_wrappers::graph
