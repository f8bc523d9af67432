#include "py/names.h"

namespace nnx_wrappers::py {

namespace {

Names make_names() {
  Names table;
#define NNX_WRAPPERS_DEFINE(member, text)          \
  table.member = PyUnicode_InternFromString(text); \
  if (!table.member.is_valid()) throw nanobind::python_error();
  NNX_WRAPPERS_NAMES(NNX_WRAPPERS_DEFINE)
#undef NNX_WRAPPERS_DEFINE
  return table;
}

}  // namespace

const Names& names() {
  static const Names table = make_names();
  return table;
}

}  // namespace nnx_wrappers::py
