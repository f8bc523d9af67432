#include "upstream/names.h"

#include "py/once.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

namespace {

PrivateNames make_names() {
  PrivateNames table;
  static_cast<py::Names&>(table) = py::names();
#define NNX_WRAPPERS_DEFINE(member, text)          \
  table.member = PyUnicode_InternFromString(text); \
  if (!table.member.is_valid()) throw nanobind::python_error();
  NNX_WRAPPERS_UPSTREAM_NAMES(NNX_WRAPPERS_DEFINE)
  NNX_WRAPPERS_PRIVATE_NAMES(NNX_WRAPPERS_DEFINE)
#undef NNX_WRAPPERS_DEFINE
  return table;
}

}  // namespace

const PrivateNames& private_names() {
  static constinit py::Once<const PrivateNames> table;
  return table.get(make_names);
}

const Names& names() { return private_names(); }

}  // namespace nnx_wrappers::upstream
