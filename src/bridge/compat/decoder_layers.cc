#include "bridge/compat/decoder_layers.h"

#include <array>
#include <string>
#include <unordered_set>

#include "py/containers.h"
#include "py/object.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The names that decoders give to their layers, in execution order. A numbered layer may also be
// named name_0, name_1 and so on.
struct LayerName {
  const char* name;
  bool numbered;
};

constexpr std::array<LayerName, 8> kLayerNames = {{{"dense_layers", true},
                                                   {"moe_layers", true},
                                                   {"moe_layers_outside_pipeline", true},
                                                   {"pipeline_module", false},
                                                   {"scanned_blocks", false},
                                                   {"layers", true},
                                                   {"layers_remainder", false},
                                                   {"layers_outside_pipeline", true}}};
constexpr std::array<const char*, 4> kFallbackPrefixes = {"dense_layers", "moe_layers", "layers",
                                                          "scanned_blocks"};

class Collector {
 public:
  explicit Collector(nb::handle to_nnx) : to_nnx_(to_nnx) {}

  void add(const nb::object& layer) {
    if (!layer.is_valid() || layer.is_none()) return;
    if (seen_.insert(layer.ptr()).second) layers_.append(layer);
  }

  void add_named(const LayerName& entry) {
    const std::string name(entry.name);
    const nb::object single = get(name);
    if (single.is_valid() && name == "pipeline_module") {
      add(py::get_optional(single, nb::str("layers")));
    } else if (single.is_valid() && !(name == "layers_remainder" && is_empty_remainder(single))) {
      add(single);
    }
    if (!entry.numbered) return;
    for (size_t i = 0;; ++i) {
      const nb::object numbered = get(name + "_" + std::to_string(i));
      if (!numbered.is_valid()) return;
      add(numbered);
    }
  }

  nb::list finish() {
    if (nb::len(layers_) != 0) return layers_;
    for (const auto& [name, value] : py::dict_items(py::instance_dict(to_nnx_))) {
      const std::string text = py::utf8(name);
      for (const char* prefix : kFallbackPrefixes) {
        if (text.starts_with(prefix)) add(value);
      }
    }
    return layers_;
  }

 private:
  nb::object get(const std::string& name) const {
    return py::get_optional(to_nnx_, nb::str(name.c_str()));
  }

  static bool is_empty_remainder(nb::handle layer) {
    const nb::object count = py::get_optional(layer, nb::str("num_of_layers"));
    return !count.is_valid() || count.equal(nb::int_(0));
  }

  nb::handle to_nnx_;
  nb::list layers_;
  std::unordered_set<PyObject*> seen_;
};

}  // namespace

nb::list decoder_layers(nb::handle to_nnx) {
  Collector collector(to_nnx);
  for (const LayerName& entry : kLayerNames) collector.add_named(entry);
  return collector.finish();
}

}  // namespace nnx_wrappers::bridge
