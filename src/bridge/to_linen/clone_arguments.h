// Clones the NNX objects among the arguments of a constructor.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::bridge {

struct Arguments {
  nanobind::tuple args;
  nanobind::dict kwargs;
};

// The arguments with a clone in the place of every NNX module and Variable, also inside containers.
// Objects that are shared have one clone. A Linen module is pure, so the NNX module that it makes
// must not write into objects of the user. Arguments without NNX objects stay the same objects.
Arguments clone_arguments(Arguments arguments);

}  // namespace nnx_wrappers::bridge
