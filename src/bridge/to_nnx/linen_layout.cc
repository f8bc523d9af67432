#include "bridge/to_nnx/linen_layout.h"

#include <algorithm>

#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/facade.h"
#include "upstream/linen.h"
#include "upstream/names.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

void collect(nb::handle collection, nb::handle level, graph::Path& path,
             std::vector<LinenLayout::Entry>& entries) {
  const py::RecursionGuard guard(" while reading the layout of a Linen module");
  for (const auto& [key, value] : py::mapping_items(level)) {
    path.push_back(key);
    if (upstream::is_level(value)) {
      collect(collection, value, path, entries);
    } else {
      const nb::object inside = upstream::facade().unbox(value);
      const nb::object dtype = py::get_optional(inside, upstream::names().dtype);
      nb::object shape;
      if (dtype.is_valid()) shape = py::get_optional(inside, upstream::names().shape);
      entries.push_back({nb::borrow(collection), path, shape, dtype});
    }
    path.pop_back();
  }
}

}  // namespace

LinenLayout LinenLayout::of(nb::handle linen_module, nb::handle method, const nb::tuple& args,
                            const nb::dict& kwargs) {
  const upstream::Names& n = upstream::names();
  const upstream::Facade& f = upstream::facade();
  LinenLayout layout;
  try {
    nb::dict given = py::copy_dict(kwargs);
    given[n.method] = method;
    py::discard(given, n.capture_intermediates);
    nb::dict rngs;
    rngs[n.params] = f.random_key(0);  // the other streams fall back to it
    const nb::tuple positional = py::prepended(rngs, args);
    const nb::object init = py::get(linen_module, n.init);
    const nb::object run = f.partial(init, *positional, **given);
    const upstream::NoLinenModule outside;
    const nb::object variables = f.eval_shape(run);
    graph::Path path;
    for (const auto& [collection, level] : py::mapping_items(variables)) {
      if (upstream::is_level(level)) collect(collection, level, path, layout.entries_);
    }
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    layout.entries_.clear();
  }
  return layout;
}

const LinenLayout::Entry* LinenLayout::find(const graph::Path& path) const {
  for (const Entry& entry : entries_) {
    if (entry.path.size() == path.size() && graph::begins_with(path, entry.path)) return &entry;
  }
  return nullptr;
}

std::string to_string(const LinenLayout::Entry& entry) {
  return py::utf8(entry.collection) + "/" + graph::to_string(entry.path);
}

}  // namespace nnx_wrappers::bridge
