#include "upstream/pytree_state.h"

#include "py/containers.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

bool is_pytree_state_name(nb::handle name) { return name.is(private_names().pytree_state); }

nb::object pytree_state(nb::handle pytree) {
  return py::dict_get(py::instance_dict(pytree), private_names().pytree_state);
}

bool is_initializing_pytree(nb::handle pytree) {
  const nb::object state = pytree_state(pytree);
  return state.is_valid() && py::truthy(py::get(state, names().initializing_property));
}

nb::object initializing_flag(nb::handle state) {
  return py::get(state, private_names().initializing);
}

void set_initializing_flag(nb::handle state, nb::handle flag) {
  py::set(state, private_names().initializing, flag);
}

nb::dict subclass_keywords(nb::handle pytree_class) {
  const nb::handle name = private_names().is_pytree;
  nb::dict keywords;
  const nb::object is_pytree = py::get(pytree_class, name);
  if (!is_pytree.equal(py::get(facade().nnx_module, name))) keywords["pytree"] = is_pytree;
  return keywords;
}

}  // namespace nnx_wrappers::upstream
