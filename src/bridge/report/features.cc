#include "nnx_wrappers/features.h"

#include "upstream/feature_set.h"

namespace nnx_wrappers {

namespace nb = nanobind;

nb::dict features() {
  nb::dict result;
  for (const upstream::FeatureState& feature : upstream::feature_states()) {
    const bool is_on = feature.reason.empty();
    result[feature.name] = is_on ? nb::none() : nb::object(nb::str(feature.reason.c_str()));
  }
  return result;
}

}  // namespace nnx_wrappers
