// The state of an nnx.Rngs that a constructor is given: its keys and counts.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>
#include <vector>

namespace nnx_wrappers::bridge {

// The class of the nnx.Rngs in an `init` whose streams fall back to 'params'.
nanobind::object linen_rngs_class();

class RngsState {
 public:
  // Nothing if there is more to the object than streams as Flax makes them, if the current trace
  // may not change them, or if a value of theirs is no tracer.
  static std::optional<RngsState> of(nanobind::handle rngs);

  // True for an object that `of` may accept.
  static bool is_rngs(nanobind::handle object);

  // The key of everything but the values: the class, the names of the streams, their tags and
  // metadata, which of them are one object, and the abstract values.
  const nanobind::object& key() const { return key_; }

  // The values that are constants of the trace, such as a count that is zero, and None for others.
  nanobind::tuple constants() const { return nanobind::tuple(constants_); }

  // The Rngs, its streams and their Variables.
  const std::vector<nanobind::object>& nodes() const { return nodes_; }

  // True if both have the same nodes.
  bool has_nodes_of(const RngsState& other) const;

  // The values of the Variables, in an order that objects with equal keys share.
  nanobind::tuple values() const;

  // Gives the Variables these values.
  void store(const std::vector<nanobind::object>& values) const;

  // The Variables that count what the streams have given out.
  std::vector<nanobind::object> counts() const;

 private:
  bool add_stream(nanobind::handle stream, nanobind::list& key);
  bool add_variable(nanobind::handle variable, nanobind::list& key);

  nanobind::object rngs_;
  nanobind::object key_;
  nanobind::list constants_;
  std::vector<nanobind::object> nodes_;
  std::vector<nanobind::object> variables_;
};

}  // namespace nnx_wrappers::bridge
