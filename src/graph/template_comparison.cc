// Template::is_same_as.
#include <algorithm>
#include <array>

#include "graph/guard_kinds.h"
#include "graph/static_key.h"
#include "graph/template.h"
#include "graph/template_node.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/pytree_state.h"

namespace nnx_wrappers::graph {

namespace {

bool is_same(const nb::object& one, const nb::object& other) {
  if (!one.is_valid() || !other.is_valid()) return one.is_valid() == other.is_valid();
  if (one.is(other)) return true;
  const nb::object key = static_key(one);
  const nb::object other_key = static_key(other);
  return key.is_valid() && other_key.is_valid() && py::equal(key, other_key);
}

// Instances have copies of a numpy array.
bool is_same_constant(const nb::object& one, const nb::object& other) {
  const nb::handle array = upstream::facade().numpy_array;
  const bool are_arrays =
      one.is_valid() && other.is_valid() && one.type().is(array) && other.type().is(array);
  return are_arrays ? py::equal(bytes_of_numpy(one), bytes_of_numpy(other)) : is_same(one, other);
}

bool is_same(const Slot& one, const Slot& other) {
  return one.is_in_closure == other.is_in_closure && one.is_shared == other.is_shared &&
         one.type.is(other.type) && is_same_constant(one.constant, other.constant) &&
         to_string(one.path) == to_string(other.path);
}

// The flags of a PytreeState that an instance gets: its trace is the current one.
bool has_same_flags(nb::handle state, nb::handle other) {
  return state.type().is(other.type()) &&
         upstream::initializing_flag(state).is(upstream::initializing_flag(other));
}

// Functions but for their cells, which are nodes.
bool is_same_function(const nb::object& one, const nb::object& other) {
  if (!one.is_valid() || !other.is_valid()) return one.is_valid() == other.is_valid();
  constexpr std::array kParts = {"__code__", "__globals__", "__defaults__", "__kwdefaults__",
                                 "__dict__", "__name__",    "__qualname__", "__module__"};
  return std::ranges::all_of(
      kParts, [&](const char* part) { return is_same(one.attr(part), other.attr(part)); });
}

}  // namespace

bool Template::is_same_as(const Template& other) const {
  using Attribute = Node::Attribute;
  const auto is_same_attribute = [](const Attribute& one, const Attribute& another) {
    if (one.source != another.source || !is_same(one.name, another.name)) return false;
    switch (one.source) {
      case Attribute::kShared:
      case Attribute::kCopied:
        return is_same(one.value, another.value);
      case Attribute::kState:
        return has_same_flags(one.value, another.value);
      case Attribute::kMoved:
        return false;
      case Attribute::kChild:
        return one.child == another.child;
    }
    return false;
  };
  const auto is_same_node = [&](const Node& one, const Node& another) {
    return one.form == another.form && one.kind == another.kind && one.slot == another.slot &&
           one.type.is(another.type) && one.impl.is(another.impl) &&
           is_same_function(one.function, another.function) &&
           is_same(one.metadata, another.metadata) &&
           is_same(one.shared_metadata, another.shared_metadata) &&
           std::ranges::equal(one.attributes, another.attributes, is_same_attribute);
  };
  return std::ranges::equal(nodes_, other.nodes_, is_same_node) &&
         std::ranges::equal(slots_, other.slots_, [](const Slot& one, const Slot& another) {
           return is_same(one, another);
         });
}

std::vector<nb::object> Template::shared() const {
  std::vector<nb::object> objects;
  for (const Node& node : nodes_) {
    for (const Node::Attribute& attribute : node.attributes) {
      if (attribute.source == Node::Attribute::kShared) objects.push_back(attribute.value);
    }
  }
  return objects;
}

}  // namespace nnx_wrappers::graph
