#include "upstream/feature_set.h"

#include <vector>

#include "py/containers.h"
#include "py/object.h"
#include "py/once.h"
#include "upstream/facade.h"
#include "upstream/probes.h"

namespace nnx_wrappers::upstream {

namespace {

using States = std::array<FeatureState, kFeatures>;

// True while this thread runs the probes, which use the features that they ask about.
thread_local bool probing = false;

struct Probing {
  Probing() { probing = true; }
  ~Probing() { probing = false; }
  Probing(const Probing&) = delete;
  Probing& operator=(const Probing&) = delete;
};

struct Definition {
  const char* name;
  std::string (*probe)();  // why it cannot be used, or an empty text; null: nothing to ask
  std::vector<Feature> needs;
};

const std::array<Definition, kFeatures>& definitions() {
  static const std::array<Definition, kFeatures> all = {{
      {"fast_variables", probe_fast_variables, {}},
      {"fast_walk", probe_fast_walk, {}},
      {"native_scopes", probe_native_scopes, {}},
      {"lifted_scopes", probe_lifted_scopes, {}},
      {"lazy_keys", probe_lazy_keys, {}},
      {"guards", probe_guards, {}},
      {"shape_checks", nullptr, {Feature::kGuards}},
      {"plans", probe_plans, {Feature::kGuards, Feature::kFastVariables, Feature::kFastWalk}},
      {"repeated_calls", probe_repeated_calls, {Feature::kPlans}},
      {"qwix", nullptr, {}},
  }};
  return all;
}

// The names in NNX_WRAPPERS_DISABLE.
std::vector<std::string> disabled() {
  const nb::object environment = nb::module_::import_("os").attr("environ");
  const nb::object text = environment.attr("get")("NNX_WRAPPERS_DISABLE", "");
  std::vector<std::string> names;
  for (const nb::object& name : py::elements(text.attr("split")(","))) {
    const std::string stripped = py::utf8(name.attr("strip")());
    if (stripped.empty()) continue;
    if (stripped == "all") {
      for (const Definition& feature : definitions()) names.emplace_back(feature.name);
    } else if (is_feature_name(stripped)) {
      names.push_back(stripped);
    } else {
      std::string known;
      for (const Definition& feature : definitions()) known.append(feature.name).append(", ");
      std::string warning = "NNX_WRAPPERS_DISABLE: expected the names of features (";
      warning.append(known).append("all), got '").append(stripped).append("'. It is passed over.");
      facade().warn(warning, nb::arg("stacklevel") = 2);
    }
  }
  return names;
}

std::string reason_of(const Definition& feature, const States& states,
                      const std::vector<std::string>& switched_off) {
  for (const std::string& name : switched_off) {
    if (name == feature.name) return "it is switched off by NNX_WRAPPERS_DISABLE";
  }
  for (const Feature needed : feature.needs) {
    const FeatureState& other = states[static_cast<size_t>(needed)];
    if (!other.reason.empty()) return "it needs " + std::string(other.name) + ", which is off";
  }
  if (feature.probe == nullptr) return "";
  try {
    return feature.probe();
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    return "its probe raised " + py::type_name(error.type()) + ": " + py::utf8(error.value());
  }
}

States load_states() {
  const std::vector<std::string> switched_off = disabled();
  const Probing here;
  States states;
  for (size_t i = 0; i < kFeatures; ++i) {
    const Definition& feature = definitions()[i];
    states[i] = {feature.name, reason_of(feature, states, switched_off)};
  }
  return states;
}

}  // namespace

const std::array<FeatureState, kFeatures>& feature_states() {
  static constinit py::Once<const States> states;
  return states.get(load_states);
}

bool has(Feature feature) {
  return probing || feature_states()[static_cast<size_t>(feature)].reason.empty();
}

bool is_feature_name(const std::string& name) {
  for (const Definition& feature : definitions()) {
    if (name == feature.name) return true;
  }
  return false;
}

}  // namespace nnx_wrappers::upstream
