#include "upstream/names.h"

#include "py/once.h"
#include "upstream/dialect/dialect.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

namespace {

nanobind::handle interned(const std::string& text) {
  const nanobind::handle name = PyUnicode_InternFromString(text.c_str());
  if (!name.is_valid()) throw nanobind::python_error();
  return name;
}

PrivateNames make_names() {
  PrivateNames table;
  static_cast<py::Names&>(table) = py::names();
#define NNX_WRAPPERS_DEFINE(member, text) table.member = interned(text);
  NNX_WRAPPERS_UPSTREAM_NAMES(NNX_WRAPPERS_DEFINE)
  NNX_WRAPPERS_PRIVATE_NAMES(NNX_WRAPPERS_DEFINE)
#undef NNX_WRAPPERS_DEFINE
  const Dialect& spelled = dialect();
  table.pytree_state = interned(spelled.pytree_state);
  table.raw_value = interned(spelled.raw_value);
  table.to_nnx_module = interned(spelled.to_nnx_module);
  table.to_nnx_rngs = interned(spelled.to_nnx_rngs);
  return table;
}

}  // namespace

const PrivateNames& private_names() {
  static constinit py::Once<const PrivateNames> table;
  return table.get(make_names);
}

const Names& names() { return private_names(); }

}  // namespace nnx_wrappers::upstream
