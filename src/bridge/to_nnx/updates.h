// The variables that a ToNNX gives to a Linen call, and the updates that the call returns.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>
#include <vector>

#include "graph/path.h"

namespace nnx_wrappers::bridge {

class LinenLayout;

// The variables of one call.
struct GivenVariables {
  nanobind::dict variables;               // by collection
  nanobind::object default_filter;        // the collections that may change by default
  std::vector<std::string> not_writable;  // the others that the current trace may not change
};

// Reads the state attributes of a ToNNX; get hooks run. An array in the place of a Variable is the
// value of the variable that `layout_of`, called only then, has at its path. Throws ValueError if
// shape or dtype are not those of that variable.
GivenVariables given_variables_of(nanobind::handle to_nnx,
                                  const std::function<LinenLayout()>& layout_of,
                                  const std::string& where);

// True if a call may create the variable at this path, which it was not given.
using MayCreate = std::function<bool(nanobind::handle collection, const graph::Path& path)>;

// Writes the leaves of `updates` that differ from those in `given`: into the Variable at the path
// if there is one, else as a new Variable. Throws ValueError for a new variable that `may_create`
// does not allow, and TraceContextError if the current trace may not change the Variable or the
// module. Writes everything or nothing.
void write_updates(nanobind::handle to_nnx, const nanobind::dict& given, nanobind::handle updates,
                   const MayCreate& may_create, const std::string& where);

// The object at a path below the attributes of a ToNNX, or an invalid object.
nanobind::object attribute_at(nanobind::handle to_nnx, const graph::Path& path);

}  // namespace nnx_wrappers::bridge
