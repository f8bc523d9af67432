// One node of a Template.
#pragma once

#include <cstddef>
#include <vector>

#include "graph/template.h"

namespace nnx_wrappers::graph {

struct Template::Node {
  struct Attribute {
    enum How {
      kShared,  // `value` itself
      kCopied,  // a copy of `value`
      kState,   // a PytreeState with the flags of `value`
      kChild    // the node `child`
    };
    nb::object name;
    How how;
    nb::object value;
    size_t child;
  };

  enum Form {
    kByKind,
    kFunction,  // a closure over this graph: `value` over the cells that are its attributes
    kCell       // holds its one attribute, or nothing
  };

  Form form = kByKind;
  upstream::NodeKind kind = upstream::NodeKind::kLeaf;
  nb::object type;
  nb::object impl;                    // Flax's implementation of an unknown node type
  nb::object metadata;                // what its flatten returned besides the children
  std::vector<Attribute> attributes;  // of a Variable: its metadata
  size_t slot = 0;                    // of a Variable or a bare leaf
  nb::object function;                // of a closure: it, over empty cells
  nb::object shared_metadata;         // of a Variable whose metadata are all shared: a dict
};

}  // namespace nnx_wrappers::graph
