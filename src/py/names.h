// Interned names of Python's own attributes. Those of Flax and JAX are in upstream/names.h.
#pragma once

#include <nanobind/nanobind.h>

namespace nnx_wrappers::py {

// Each line is (C++ member, Python spelling).
#define NNX_WRAPPERS_PYTHON_NAMES(X)          \
  X(args, "args")                             \
  X(call_dunder, "__call__")                  \
  X(class_dunder, "__class__")                \
  X(closure_dunder, "__closure__")            \
  X(code_dunder, "__code__")                  \
  X(dataclass_fields, "__dataclass_fields__") \
  X(defaults_dunder, "__defaults__")          \
  X(dict_dunder, "__dict__")                  \
  X(func, "func")                             \
  X(init_dunder, "__init__")                  \
  X(items, "items")                           \
  X(kwdefaults_dunder, "__kwdefaults__")      \
  X(name_dunder, "__name__")                  \
  X(qualname_dunder, "__qualname__")          \
  X(self_dunder, "__self__")                  \
  X(setattr_dunder, "__setattr__")            \
  X(warning_registry, "__warningregistry__")  \
  X(wrapped_dunder, "__wrapped__")

struct Names {
#define NNX_WRAPPERS_DECLARE(member, text) nanobind::handle member;
  NNX_WRAPPERS_PYTHON_NAMES(NNX_WRAPPERS_DECLARE)
#undef NNX_WRAPPERS_DECLARE
};

// The table, made at the first call. Its names live as long as the interpreter.
const Names& names();

}  // namespace nnx_wrappers::py
