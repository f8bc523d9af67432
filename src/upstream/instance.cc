#include "upstream/instance.h"

#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

void set_attribute(nb::handle object, nb::handle name, nb::handle value) {
  if (PyUnicode_Check(name.ptr()) == 0) {  // a number in an nnx.List, before Flax 0.12.4
    py::instance_dict(object)[name] = value;
    return;
  }
  py::set_generic(object, name, value);
}

nb::object new_pytree_state(nb::handle source, nb::handle trace_state) {
  const PrivateNames& n = private_names();
  nb::object state = py::allocate(source.type());
  py::set_generic(state, n.trace_state, trace_state);
  py::set_generic(state, n.initializing, py::get(source, n.initializing));
  py::set_generic(state, n.is_setup, py::get(source, n.is_setup));
  return state;
}

nb::object new_plain_variable(nb::handle type, nb::handle value, const nb::dict& metadata,
                              nb::handle trace_state) {
  const PrivateNames& n = private_names();
  nb::object variable = py::allocate(type);
  py::set_generic(variable, n.trace_state, trace_state);
  py::set_generic(variable, n.var_metadata, metadata);
  py::set_generic(variable, n.raw_value, value);
  return variable;
}

Flattened flatten_by_flax(nb::handle node) {
  const Facade& f = facade();
  Flattened result;
  result.impl = f.get_node_impl(node);
  const nb::object flattened = py::get(result.impl, private_names().flatten)(node);
  for (const nb::object& pair : py::elements(flattened[0])) {
    nb::object value = pair[1];
    if (py::is_subtype(value.type(), f.data_elem) || py::is_subtype(value.type(), f.static_elem)) {
      value = py::get(value, private_names().value);
    }
    result.items.emplace_back(pair[0], std::move(value));
  }
  result.metadata = flattened[1];
  return result;
}

nb::object auxiliary_data(nb::handle metadata) {
  const nb::object treedef = py::get_optional(metadata, nb::str("treedef"));
  return treedef.is_valid() ? nb::object(treedef.attr("node_data")()[1]) : nb::borrow(metadata);
}

nb::object unflatten(nb::handle impl, nb::handle pairs, nb::handle metadata) {
  return py::get(impl, private_names().unflatten)(pairs, metadata);
}

nb::object create_empty(nb::handle impl, nb::handle metadata) {
  return py::get(impl, nb::str("create_empty"))(metadata);
}

void fill(nb::handle impl, nb::handle node, nb::handle pairs) {
  py::get(impl, nb::str("init"))(node, pairs);
}

}  // namespace nnx_wrappers::upstream
