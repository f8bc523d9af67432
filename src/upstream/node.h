// One node of an NNX module graph: what kind it is, its children, how to change
// or rebuild it. The rules are those of flax.nnx's graph mode.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

enum class NodeKind {
  kLeaf,       // not a node: a value
  kVariable,   // nnx.Variable, hijax variables included
  kArrayRef,   // jax.Ref
  kPytree,     // nnx.Pytree with Flax's own flatten: its __dict__ is read directly
  kList,       // exactly list
  kTuple,      // exactly tuple
  kDict,       // exactly dict
  kGraphNode,  // another registered graph node type: Flax's flatten for that node
  kPytreeNode  // another registered pytree type: Flax's flatten for that node
};

NodeKind kind_of(nb::handle object);

// Nodes that may be shared and are walked once: everything with an identity.
constexpr bool has_identity(NodeKind kind) {
  return kind == NodeKind::kVariable || kind == NodeKind::kArrayRef || kind == NodeKind::kPytree ||
         kind == NodeKind::kGraphNode;
}

// A child that holds state: a node, or a value that Flax treats as a leaf.
struct Child {
  nb::object key;  // str or int, as in Flax's paths
  nb::object value;
  NodeKind kind;
};

// The children of a node in Flax's order, static attributes left out. All owned.
std::vector<Child> children_of(nb::handle node, NodeKind kind);

// The same for an nnx.Pytree, read from its __dict__; and by the flatten function that Flax has for
// the type of the node.
std::vector<Child> pytree_children(nb::handle node);
std::vector<Child> children_by_flax(nb::handle node);

// Puts `value` at `key` in a mutable node; returns false if the node cannot be
// changed in place (a tuple, a generic pytree).
bool set_child(nb::handle node, NodeKind kind, nb::handle key, nb::handle value);

// A copy of an immutable node whose children are `children` (all of them, in
// the order of children_of). Only for kTuple and kPytreeNode.
nb::object rebuild(nb::handle node, NodeKind kind, const std::vector<Child>& children);

// True if nnx.Pytree is a base of the object's type.
bool is_pytree(nb::handle object);

}  // namespace nnx_wrappers::upstream
