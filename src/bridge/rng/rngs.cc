#include "nnx_wrappers/rngs.h"

#include "nnx_wrappers/errors.h"
#include "py/containers.h"
#include "py/object.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/streams.h"

namespace nnx_wrappers {

namespace nb = nanobind;

nb::dict linen_rngs_dict(nb::handle linen_module, bool add_default) {
  const upstream::Names& n = upstream::names();
  if (!upstream::is_linen_module(linen_module)) {
    raise_type_error({"linen_rngs_dict", "a Linen module", py::describe(linen_module),
                      "Pass `self` of a Linen module, inside one of its methods."});
  }
  const nb::object scope = py::get(linen_module, n.scope);
  if (scope.is_none()) {
    raise_value_error({"linen_rngs_dict", "a bound Linen module", "an unbound one",
                       "Call it inside a method that `init` or `apply` runs."});
  }
  const nb::object make_rng = py::get(linen_module, n.make_rng);
  nb::dict keys;
  for (const nb::object& name : py::elements(py::get(scope, n.rngs))) keys[name] = make_rng(name);
  if (add_default && !keys.contains(n.default_)) keys[n.default_] = 0;
  return keys;
}

nb::dict nnx_rngs_to_linen(nb::handle rngs) {
  const upstream::Names& n = upstream::names();
  const upstream::Facade& f = upstream::facade();
  nb::dict keys;
  if (rngs.is_none()) return keys;
  if (py::is_instance(rngs, f.rngs)) {
    for (const auto& [name, stream] : upstream::streams_of(rngs)) keys[name] = stream();
  } else if (upstream::is_jax_array(rngs)) {
    keys[n.params] = rngs;
  } else if (py::is_mapping(rngs)) {
    for (const auto& [name, key] : py::mapping_items(rngs)) keys[name] = key;
  } else {
    raise_type_error({"ToNNX, rngs", "nnx.Rngs, a JAX random key, a dict of keys or None",
                      py::describe(rngs), "Pass rngs=nnx.Rngs(0), for example."});
  }
  const nb::object unnamed = py::dict_get(keys, n.default_);
  if (unnamed.is_valid() && !keys.contains(n.params)) {
    py::remove(keys, n.default_);
    keys[n.params] = unnamed;
  }
  return keys;
}

}  // namespace nnx_wrappers
