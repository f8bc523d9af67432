#include "bridge/compat/functional.h"

#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/names.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

nb::object functional_init(nb::handle self, nb::handle rngs) {
  const upstream::Names& n = upstream::names();
  nb::dict kwargs = py::to_dict(py::get(self, n.kwargs));
  if (!rngs.is_none()) kwargs[n.rngs] = rngs;
  const nb::object type = py::get(self, nb::str("module_type"));
  if (PyCallable_Check(type.ptr()) == 0) {
    raise_type_error({"functional", "an NNX class", py::describe(type),
                      "Write functional(nnx.Linear)(in_features, out_features)."});
  }
  const nb::object module = py::call(type, nb::tuple(py::get(self, n.args)), kwargs);
  const nb::object parts = upstream::facade().split(module);
  py::set(self, nb::str("graphdef"), parts[0]);
  return parts[1];
}

nb::object functional_apply(nb::handle self, const nb::tuple& states) {
  const upstream::Names& n = upstream::names();
  const nb::object graphdef = py::get(self, nb::str("graphdef"));
  if (graphdef.is_none()) {
    raise_value_error({"Functional.apply", "a Functional that has been initialized",
                       "one without a graphdef", "Call init(rngs=...) first."});
  }
  return py::call(py::get(graphdef, n.apply), states, nb::dict());
}

nb::object with_partitioning(nb::handle initializer, nb::handle names, nb::handle mesh) {
  if (PyCallable_Check(initializer.ptr()) == 0) {
    raise_type_error({"with_partitioning", "an initializer (a callable)", py::describe(initializer),
                      "Pass nnx.initializers.lecun_normal(), for example."});
  }
  const upstream::Facade& f = upstream::facade();
  nb::dict metadata;
  metadata[upstream::names().linen_meta_type] = f.partitioned;
  return py::call(f.with_partitioning, nb::make_tuple(initializer, names, mesh), metadata);
}

}  // namespace nnx_wrappers::bridge
