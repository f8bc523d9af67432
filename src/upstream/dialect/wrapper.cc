#include "upstream/dialect/wrapper.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "py/object.h"
#include "upstream/dialect/dialect.h"
#include "upstream/facade.h"
#include "upstream/look_up.h"
#include "upstream/names.h"
#include "upstream/variable.h"

namespace nnx_wrappers::upstream {

namespace {

constexpr std::array<std::string_view, 3> kReservedPrefixes = {"to_nnx__", "_pytree__",
                                                               "_object__"};

}  // namespace

nb::object streams_for_wrapper(nb::handle rngs) {
  return dialect().has_older_bridge ? nb::borrow(rngs) : py::get(rngs, names().fork)();
}

nb::object key_for_lazy_init(nb::handle stream) {
  if (!dialect().initializes_by_stream_keys) return stream();
  return raw_value(py::get(stream, names().key));
}

nb::dict wrapper_class_keywords() {
  nb::dict keywords;
  if (!dialect().has_older_bridge) return keywords;
  const nb::object wrapper = nb::borrow(look_up("flax.nnx.bridge:ToNNX"));
  for (const char* name : {"_pytree__is_pytree", "_object__is_pytree"}) {
    const nb::object own = py::get_optional(wrapper, nb::str(name));
    if (!own.is_valid()) continue;
    if (!own.equal(py::get(facade().nnx_module, nb::str(name)))) keywords["pytree"] = own;
  }
  return keywords;
}

nb::tuple wrapper_attributes() {
  return nb::make_tuple(nb::borrow(names().to_nnx_module), nb::borrow(names().to_nnx_rngs));
}

bool is_wrapper_attribute(nb::handle name) {
  const std::string text = py::utf8(name);
  if (text == dialect().to_nnx_module || text == dialect().to_nnx_rngs) return true;
  return std::ranges::any_of(kReservedPrefixes,
                             [&](std::string_view prefix) { return text.starts_with(prefix); });
}

nb::object marked_as_data(nb::handle value) {
  return dialect().has_older_bridge ? nb::borrow(value) : facade().data(value);
}

bool is_stored_graph_def(nb::handle value) {
  return dialect().has_older_bridge && py::is_subtype(value.type(), dialect().graph_def);
}

bool has_to_linen() { return !dialect().has_older_bridge; }

std::string why_no_to_linen() {
  return "it needs Flax 0.12.0 or later, got Flax " + version_of("flax") +
         ", whose ToLinen draws other keys and stores other variables. Use flax.nnx.bridge.ToLinen "
         "there, or install a newer Flax.";
}

}  // namespace nnx_wrappers::upstream
