// Linen's shape check of parameters, remembered.
//
// Every `apply` re-traces each initializer only to compare its shape with that of
// the parameter it is given. The scope that ToNNX runs a Linen module in remembers
// which (initializer, arguments, trace context, shapes) have passed Flax's own
// check, and asks Flax for everything else. So a wrong shape is still Flax's error.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>

namespace nnx_wrappers::bridge {

// Scope.param: Flax's contract (reservation, boxes, errors), with the check
// remembered where the initializer and its arguments have a static key.
nanobind::object checked_param(nanobind::handle scope, nanobind::handle name,
                               nanobind::handle init_fn, const nanobind::tuple& init_args,
                               bool unbox, const nanobind::dict& init_kwargs);

// linen.Module.apply in such a scope; arguments as there. A child scope is of its
// parent's class, so the whole module runs in it. With `initializing` the module
// sees itself in `init` although it runs on given variables.
struct LinenCall {
  nanobind::handle variables;
  nanobind::handle rngs;
  nanobind::handle method;
  nanobind::handle mutable_;
  bool initializing = false;
};
nanobind::object apply_linen(nanobind::handle linen_module, const LinenCall& call,
                             const nanobind::tuple& args, const nanobind::dict& kwargs);

}  // namespace nnx_wrappers::bridge
