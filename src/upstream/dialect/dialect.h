// What Flax 0.10.2 to 0.12.0 does in another way than the versions since. Nothing outside of
// src/upstream asks which it is: the other files of this room do, and hide it.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

struct Dialect {
  // Up to Flax 0.12.0 a Variable has no methods for the value that it stores.
  bool has_older_variables = false;
  // Up to Flax 0.11.2 Flax's ToNNX keeps the streams that it is given, and Flax's ToLinen is
  // another program: it stores a graph definition, and draws other keys.
  bool has_older_bridge = false;
  // Up to Flax 0.10.4 lazy_init gives Linen the keys of the streams, and the counts stay.
  bool initializes_by_stream_keys = false;

  // Attributes of Flax's own objects.
  std::string pytree_state = "_pytree__state";
  std::string raw_value = "_raw_value";
  // Attributes of a ToNNX. They are part of the paths of its state.
  std::string to_nnx_module = "to_nnx__module";
  std::string to_nnx_rngs = "to_nnx__rngs";

  nb::handle variable_state;  // class nnx.VariableState; only with older Variables
  nb::handle graph_def;       // class nnx.GraphDef; only with an older bridge
};

// The dialect of the installed Flax. Needs the GIL; the first call imports Flax, and throws
// ImportError if that cannot be.
const Dialect& dialect();

}  // namespace nnx_wrappers::upstream
