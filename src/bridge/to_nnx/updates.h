// What a Linen call has changed, written into the Variables of a ToNNX.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <string>
#include <vector>

#include "graph/path.h"

namespace nnx_wrappers::bridge {

// The variables of one call: what Linen was given, and what stands behind it.
struct GivenVariables {
  nanobind::dict variables;               // collections
  nanobind::object default_filter;        // what may change if nobody says it
  std::vector<std::string> not_writable;  // collections that may not change in this trace
};

// Reads the state attributes of a ToNNX; get hooks run. `layout_of`, called if arrays stand among
// them where no Variable is, gives what the Linen module has: an array that fits one of its
// variables is its value. ValueError with the path for one that does not fit.
class LinenLayout;
GivenVariables given_variables_of(nanobind::handle to_nnx,
                                  const std::function<LinenLayout()>& layout_of,
                                  const std::string& where);

// Writes the leaves of `updates` that are others than those given: in place into the Variable that
// is there, else into a new one. `may_make` says whether a path that the call was not given may be
// new (collection, path); if not, ValueError. A Variable or module that this trace may not change
// is a TraceContextError. All or nothing.
void write_updates(
    nanobind::handle to_nnx, const nanobind::dict& given, nanobind::handle updates,
    const std::function<bool(nanobind::handle collection, const graph::Path& path)>& may_make,
    const std::string& where);

// What is at the path below the attributes of a ToNNX, or an invalid object.
nanobind::object attribute_at(nanobind::handle to_nnx, const graph::Path& path);

}  // namespace nnx_wrappers::bridge
