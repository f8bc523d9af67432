#include "graph/template.h"

#include <algorithm>
#include <utility>

#include "graph/static_value.h"
#include "graph/template_node.h"
#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/facade.h"
#include "upstream/instance.h"
#include "upstream/linen.h"
#include "upstream/program.h"
#include "upstream/variable.h"

namespace nnx_wrappers::graph {

Template::Template() = default;
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

void Template::detach() {
  StaticCopies copies(kept_);
  for (Node& node : nodes_) {
    for (Node::Attribute& attribute : node.attributes) {
      if (attribute.source == Node::Attribute::kCopied)
        attribute.value = copies.copy(attribute.value);
    }
  }
  for (Slot& slot : slots_) {
    if (slot.constant.is_valid() && !slot.is_shared)
      slot.constant = upstream::copied_value(slot.constant);
  }
}

const std::vector<Slot>& Template::slots() const { return slots_; }

bool Template::moves_linen_modules() const {
  return std::ranges::any_of(nodes_, [](const Node& node) {
    return std::ranges::any_of(node.attributes, [](const Node::Attribute& attribute) {
      return attribute.source == Node::Attribute::kMoved;
    });
  });
}

class Instantiation {
 public:
  Instantiation(const Template& source, const std::vector<nb::object>& values,
                const std::vector<nb::object>& given)
      : nodes_(source.nodes_),
        values_(values),
        given_(given),
        made_(source.nodes_.size()),
        copies_(source.kept_) {}

  nb::object make(size_t index) {
    const py::RecursionGuard guard(" while making an NNX module");
    if (made_[index].is_valid()) return made_[index];
    const Template::Node& node = nodes_[index];
    if (node.form == Template::Node::kFunction) return make_closure(node, index);
    if (node.form == Template::Node::kGiven) return made_[index] = given_.at(node.slot);
    switch (node.kind) {
      case upstream::NodeKind::kLeaf:
        return made_[index] = values_.at(node.slot);
      case upstream::NodeKind::kVariable:
        return made_[index] = make_variable(node);
      case upstream::NodeKind::kPytree:
        return make_pytree(node, index);
      case upstream::NodeKind::kList:
      case upstream::NodeKind::kTuple: {
        nb::list elements;
        for (const auto& attribute : node.attributes) elements.append(value_of(attribute));
        return made_[index] = node.kind == upstream::NodeKind::kList
                                  ? nb::object(elements)
                                  : nb::object(nb::tuple(elements));
      }
      case upstream::NodeKind::kDict: {
        nb::dict items;
        for (const auto& attribute : node.attributes) items[attribute.name] = value_of(attribute);
        return made_[index] = items;
      }
      case upstream::NodeKind::kGraphNode:
        made_[index] = upstream::create_empty(node.impl, node.metadata);
        upstream::fill(node.impl, made_[index], pairs(node));
        return made_[index];
      case upstream::NodeKind::kPytreeNode:
        if (!node.impl.is_valid()) return made_[index] = nb::none();
        return made_[index] = upstream::unflatten(node.impl, pairs(node), node.metadata);
      case upstream::NodeKind::kArrayRef:
        break;
    }
    throw InternalError("a template with a node that cannot be made");
  }

 private:
  using Attribute = Template::Node::Attribute;

  nb::object value_of(const Attribute& attribute) {
    switch (attribute.source) {
      case Attribute::kShared:
        return attribute.value;
      case Attribute::kCopied:
        return copies_.copy(attribute.value);
      case Attribute::kState:
        return upstream::new_pytree_state(attribute.value, trace_state());
      case Attribute::kMoved:
        return linen_.moved(attribute.value);
      case Attribute::kChild:
        return make(attribute.child);
    }
    throw InternalError("an attribute without a source");
  }

  nb::list pairs(const Template::Node& node) {
    nb::list made;
    for (const auto& attribute : node.attributes) {
      made.append(nb::make_tuple(attribute.name, value_of(attribute)));
    }
    return made;
  }

  nb::object make_variable(const Template::Node& node) {
    nb::dict metadata =
        node.shared_metadata.is_valid() ? py::copy_dict(node.shared_metadata) : nb::dict();
    for (const auto& attribute : node.attributes) metadata[attribute.name] = value_of(attribute);
    return upstream::new_plain_variable(node.type, values_.at(node.slot), metadata, trace_state());
  }

  // Registers the Pytree before its attributes are made, since they may refer back to it.
  nb::object make_pytree(const Template::Node& node, size_t index) {
    nb::object object = py::allocate(node.type);
    made_[index] = object;
    for (const auto& attribute : node.attributes) {
      upstream::set_attribute(object, attribute.name, value_of(attribute));
    }
    return object;
  }

  // Registers the closure before its cells are filled, since they may lead back to it.
  nb::object make_closure(const Template::Node& node, size_t index) {
    std::vector<nb::object> cells;
    for (const auto& attribute : node.attributes) {
      nb::object& cell = made_[attribute.child];
      if (!cell.is_valid()) cell = py::empty_cell();
      cells.push_back(cell);
    }
    made_[index] = py::with_cells(node.function, cells);
    for (const auto& attribute : node.attributes) {
      for (const auto& held : nodes_[attribute.child].attributes) {
        py::fill_cell(made_[attribute.child], value_of(held));
      }
    }
    return made_[index];
  }

  // The TraceState of the current trace. All nodes share one, since it never changes.
  const nb::object& trace_state() {
    if (!trace_state_.is_valid()) trace_state_ = upstream::facade().trace_state();
    return trace_state_;
  }

  const std::vector<Template::Node>& nodes_;
  const std::vector<nb::object>& values_;
  const std::vector<nb::object>& given_;
  std::vector<nb::object> made_;
  StaticCopies copies_;
  upstream::LinenMove linen_;
  nb::object trace_state_;
};

nb::object Template::instantiate(const std::vector<nb::object>& values,
                                 const std::vector<nb::object>& given) const {
  return Instantiation(*this, values, given).make(0);
}

}  // namespace nnx_wrappers::graph
