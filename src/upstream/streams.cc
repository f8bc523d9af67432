#include "upstream/streams.h"

#include "py/names.h"
#include "py/object.h"
#include "upstream/facade.h"

namespace nnx_wrappers::upstream {

namespace {

bool has_items_of_its_own(nb::handle type) {
  const Facade& f = facade();
  if (type.is(f.rngs)) return false;
  const nb::handle items = py::names().items;
  return !py::class_attribute(type, items).is(py::class_attribute(f.rngs, items));
}

}  // namespace

std::vector<py::Item> streams_of(nb::handle rngs) {
  if (has_items_of_its_own(rngs.type())) return py::mapping_items(rngs);
  std::vector<py::Item> streams;
  for (const py::Item& attribute : py::dict_items(py::instance_dict(rngs))) {
    if (py::is_instance(attribute.second, facade().rng_stream)) streams.push_back(attribute);
  }
  return streams;
}

}  // namespace nnx_wrappers::upstream
