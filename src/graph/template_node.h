// One node of a Template.
#pragma once

#include <cstddef>
#include <vector>

#include "graph/template.h"

namespace nnx_wrappers::graph {

struct Template::Node {
  struct Attribute {
    // Where an instance gets the attribute from.
    enum Source {
      kShared,  // `value` itself
      kCopied,  // a copy of `value`
      kState,   // a new PytreeState with the flags of `value`
      kMoved,   // a copy of the Linen module `value` inside the innermost one
      kChild    // the instance of the node `child`
    };
    nb::object name;
    Source source;
    nb::object value;
    size_t child;
  };

  enum Form {
    kByKind,    // a node of the module graph, of this `kind`
    kGiven,     // the one of the given nodes whose index is `slot`
    kFunction,  // a closure over the graph: `function` with the cells that are its attributes
    kCell       // a cell with one attribute, its contents, or with none if it is empty
  };

  Form form = kByKind;
  upstream::NodeKind kind = upstream::NodeKind::kLeaf;
  nb::object type;
  nb::object impl;                    // of a kGraphNode or kPytreeNode: Flax's implementation
  nb::object metadata;                // of such a node: the metadata that flattening it gave
  std::vector<Attribute> attributes;  // of a Variable: its metadata
  size_t slot = 0;                    // of a Variable or a leaf; the index of a given node
  nb::object function;                // of a closure: the function with empty cells
  nb::object shared_metadata;         // a dict, if all metadata of a Variable are shared
};

}  // namespace nnx_wrappers::graph
