#include "bridge/linen_layout.h"

#include <algorithm>

#include "flax/facade.h"
#include "flax/linen.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"
#include "py/recursion.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

void collect(nb::handle collection, nb::handle level, graph::Path& path,
             std::vector<LinenLayout::Entry>& entries) {
  const py::RecursionGuard guard(" while reading the layout of a Linen module");
  for (const auto& [key, value] : py::mapping_items(level)) {
    path.push_back(key);
    if (flax::is_level(value)) {
      collect(collection, value, path, entries);
    } else {
      const nb::object inside = flax::facade().unbox(value);
      const nb::object dtype = py::get_optional(inside, py::names().dtype);
      nb::object shape;
      if (dtype.is_valid()) shape = py::get_optional(inside, py::names().shape);
      entries.push_back({nb::borrow(collection), path, shape, dtype});
    }
    path.pop_back();
  }
}

bool is_same(const graph::Path& left, const graph::Path& right) {
  return std::ranges::equal(left, right,
                            [](const nb::object& a, const nb::object& b) { return a.equal(b); });
}

}  // namespace

LinenLayout LinenLayout::of(nb::handle linen_module, nb::handle method, const nb::tuple& args,
                            const nb::dict& kwargs) {
  const py::Names& n = py::names();
  const flax::Facade& f = flax::facade();
  LinenLayout layout;
  try {
    nb::dict given = py::copy_dict(kwargs);
    given[n.method] = method;
    py::remove_if_there(given, n.capture_intermediates);
    nb::dict rngs;
    rngs[n.params] = f.random_key(0);  // other streams fall back to it
    nb::list positional;
    positional.append(rngs);
    for (nb::handle arg : args) positional.append(arg);
    const nb::object init = py::get(linen_module, n.init);
    const nb::object run = f.partial(init, *nb::tuple(positional), **given);
    const flax::NoLinenModule outside;
    const nb::object variables = f.eval_shape(run);
    graph::Path path;
    for (const auto& [collection, level] : py::mapping_items(variables)) {
      if (flax::is_level(level)) collect(collection, level, path, layout.entries_);
    }
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    layout.entries_.clear();
  }
  return layout;
}

const LinenLayout::Entry* LinenLayout::find(const graph::Path& path) const {
  for (const Entry& entry : entries_) {
    if (is_same(entry.path, path)) return &entry;
  }
  return nullptr;
}

std::string to_string(const LinenLayout::Entry& entry) {
  return py::utf8(entry.collection) + "/" + graph::to_string(entry.path);
}

}  // namespace nnx_wrappers::bridge
