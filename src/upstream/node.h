// A node of an NNX module graph: its kind and its children, and how it is changed or rebuilt. The
// rules are those of flax.nnx's graph mode.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

enum class NodeKind {
  kLeaf,       // a value, which is no node
  kVariable,   // an nnx.Variable, hijax variables included
  kArrayRef,   // a jax.Ref
  kPytree,     // an nnx.Pytree with Flax's own flatten, whose __dict__ is read directly
  kList,       // a list, and no subclass
  kTuple,      // a tuple, and no subclass
  kDict,       // a dict, and no subclass
  kGraphNode,  // another registered type of graph nodes, flattened by Flax
  kPytreeNode  // another registered type of pytrees, flattened by Flax
};

NodeKind kind_of(nb::handle object);

// True for nodes that Flax shares between places: it visits each of them once.
constexpr bool has_identity(NodeKind kind) {
  return kind == NodeKind::kVariable || kind == NodeKind::kArrayRef || kind == NodeKind::kPytree ||
         kind == NodeKind::kGraphNode;
}

// A child that is no static attribute: a node, or a value that Flax treats as a leaf.
struct Child {
  nb::object key;  // a str or an int, as in Flax's paths
  nb::object value;
  NodeKind kind;
};

// The children of a node in Flax's order, without static attributes. All owned.
std::vector<Child> children_of(nb::handle node, NodeKind kind);

// The same for an nnx.Pytree, read from its __dict__; and by the flatten function that Flax has for
// the type of the node.
std::vector<Child> pytree_children(nb::handle node);
std::vector<Child> children_by_flax(nb::handle node);

// Sets the child at `key`. Returns false, and changes nothing, if the node cannot be changed in
// place: a tuple, or a type of pytrees without a setter.
bool set_child(nb::handle node, NodeKind kind, nb::handle key, nb::handle value);

// A copy of an immutable node, a kTuple or a kPytreeNode, with these children: all of them, in the
// order of children_of.
nb::object rebuild(nb::handle node, NodeKind kind, const std::vector<Child>& children);

// True for an instance of nnx.Pytree.
bool is_pytree(nb::handle object);

}  // namespace nnx_wrappers::upstream
