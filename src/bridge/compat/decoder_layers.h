// The body of ToNNX.get_layers.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

// The decoder layers among the attributes of `to_nnx`, in execution order, each once.
nanobind::list decoder_layers(nanobind::handle to_nnx);

}  // namespace nnx_wrappers::bridge
