// Runs Linen modules in a scope that remembers the shape check of parameters.
//
// In every `apply` Linen traces each initializer again, to compare the shape that it gives with
// that of the parameter. The scope in which ToNNX runs a Linen module remembers which (initializer,
// arguments, trace context, shapes) have passed that check, and calls Flax for all others. So a
// wrong shape still raises Flax's own error.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>

namespace nnx_wrappers::bridge {

// The body of CheckedScope.param. It has the contract of Scope.param (reservation, boxes, errors).
// The check is remembered if the initializer and its arguments have static keys.
nanobind::object checked_param(nanobind::handle scope, nanobind::handle name,
                               nanobind::handle init_fn, const nanobind::tuple& init_args,
                               bool unbox, const nanobind::dict& init_kwargs);

// linen.Module.apply in such a scope, with the same arguments. Child scopes are of the class of
// their parent, so the whole module runs in it. With `initializing` the module finds itself in
// `init`, although it runs on given variables.
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
