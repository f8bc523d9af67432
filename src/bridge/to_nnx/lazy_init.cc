#include "nnx_wrappers/lazy_init.h"

#include "bridge/to_nnx/initializing.h"
#include "graph/snapshot.h"
#include "graph/walk.h"
#include "nnx_wrappers/errors.h"
#include "py/names.h"
#include "py/object.h"
#include "upstream/facade.h"

namespace nnx_wrappers {

namespace nb = nanobind;

namespace {

nb::object module_of(nb::handle module_or_method) {
  const nb::handle module_type = upstream::facade().nnx_module;
  if (py::is_instance(module_or_method, module_type)) {
    if (PyCallable_Check(module_or_method.ptr()) != 0) return nb::borrow(module_or_method);
    raise_type_error({"lazy_init", "a module with a __call__ method, or one of its methods",
                      py::describe(module_or_method) + ", which has no __call__",
                      "Pass a bound method, like lazy_init(module.encode, x)."});
  }
  nb::object owner = py::get_optional(module_or_method, py::names().self_dunder);
  if (owner.is_valid() && py::is_instance(owner, module_type)) return owner;
  const bool is_linen =
      py::is_instance(module_or_method, upstream::facade().linen_module) ||
      (owner.is_valid() && py::is_instance(owner, upstream::facade().linen_module));
  raise_value_error(
      {"lazy_init", "an NNX module, or a method of an NNX Module", py::describe(module_or_method),
       is_linen ? "Wrap the Linen module first: lazy_init(ToNNX(module, rngs=rngs), x)."
                : "Pass the module itself, or a bound method of it."});
}

}  // namespace

nb::object lazy_init(nb::handle module_or_method, const nb::tuple& args, const nb::dict& kwargs) {
  const nb::object module = module_of(module_or_method);
  graph::Snapshot before;
  before.add_graph(module);
  graph::all_or_nothing(before, [&] {
    bridge::Initializing flags(module, graph::pytrees_of(module));
    py::call(module_or_method, args, kwargs);
    flags.finish();
  });
  return nb::borrow(module_or_method);
}

}  // namespace nnx_wrappers
