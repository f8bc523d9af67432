#include "py/names.h"

#include "py/once.h"

namespace nnx_wrappers::py {

namespace {

Names make_names() {
  Names table;
#define NNX_WRAPPERS_DEFINE(member, text)          \
  table.member = PyUnicode_InternFromString(text); \
  if (!table.member.is_valid()) throw nanobind::python_error();
  NNX_WRAPPERS_PYTHON_NAMES(NNX_WRAPPERS_DEFINE)
#undef NNX_WRAPPERS_DEFINE
  return table;
}

}  // namespace

const Names& names() {
  static constinit Once<const Names> table;
  return table.get(make_names);
}

}  // namespace nnx_wrappers::py
