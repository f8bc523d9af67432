// What the library can do faster, or at all, because it knows how the installed Flax and JAX work
// inside. Each feature is on only where the names that it needs are there and its probe finds that
// both ways of making an object give the same object. Where it is off, Flax's own way runs: slower,
// with the same answers.
#pragma once

#include <nanobind/nanobind.h>

#include <array>
#include <cstddef>
#include <string>

namespace nnx_wrappers::upstream {

namespace nb = nanobind;

enum class Feature {
  kFastVariables,  // Variables made and read past their constructors and methods
  kFastWalk,       // the attributes of an nnx.Pytree read without Flax's flatten
  kNativeScopes,   // child scopes of a ToNNX made without Flax's methods
  kLiftedScopes,   // the scopes that lifted transformations make are those of a ToNNX too
  kLazyKeys,       // the keys of a ToNNX call drawn when Linen asks for them
  kGuards,         // what code reads while it runs, recorded and compared
  kShapeChecks,    // Linen's shape check of parameters remembered; needs kGuards
  kPlans,          // constructors remembered; needs kGuards, kFastVariables and kFastWalk
  kRepeatedCalls,  // equal constructor calls inside one that is planned, traced once; needs kPlans
  kQwix            // submodules of an NNX module have paths while Qwix intercepts
};
inline constexpr size_t kFeatures = 10;

struct FeatureState {
  const char* name;
  std::string reason;  // why it is off; empty if it is on
};

// True if the feature is on. The first call reads the environment variable NNX_WRAPPERS_DISABLE
// (names separated by commas, or 'all') and runs the probes. Needs the GIL.
bool has(Feature feature);

// The states of all features, in the order of the enumeration.
const std::array<FeatureState, kFeatures>& feature_states();

// True for the feature of a name that NNX_WRAPPERS_DISABLE knows.
bool is_feature_name(const std::string& name);

}  // namespace nnx_wrappers::upstream
