#include "bridge/plan/rngs_state.h"

#include <algorithm>

#include "graph/static_key.h"
#include "graph/static_value.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/python_class.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/instance.h"
#include "upstream/leaked.h"
#include "upstream/names.h"
#include "upstream/pytree_state.h"
#include "upstream/trace_slice.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// The position of `object` among `nodes`, or nothing.
std::optional<size_t> position_in(const std::vector<nb::object>& nodes, nb::handle object) {
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].is(object)) return i;
  }
  return std::nullopt;
}

// False for an object that may change, which a module could share with the streams.
bool append_key(nb::list& key, nb::handle value) {
  if (graph::policy_of(value, {}) != graph::StaticPolicy::kShare) return false;
  const bool is_own_key = value.type().is(upstream::facade().hashable_mapping);
  const nb::object part = is_own_key ? nb::borrow(value) : graph::static_key(value);
  if (part.is_valid()) key.append(part);
  return part.is_valid();
}

}  // namespace

nb::object linen_rngs_class() { return py::python_class("LinenRngs", "nnx_wrappers._rngs"); }

bool RngsState::is_rngs(nb::handle object) {
  const nb::handle type = object.type();
  return type.is(upstream::facade().rngs) || type.is(linen_rngs_class());
}

std::optional<RngsState> RngsState::of(nb::handle rngs) {
  RngsState state;
  state.rngs_ = nb::borrow(rngs);
  state.nodes_.push_back(state.rngs_);
  nb::list key;
  key.append(py::id(rngs.type()));  // a class that lives for ever
  for (const auto& [name, value] : py::dict_items(py::instance_dict(rngs))) {
    key.append(name);
    if (upstream::is_pytree_state_name(name)) continue;
    if (value.type().is(upstream::facade().rng_stream)) {
      if (!state.add_stream(value, key)) return std::nullopt;
    } else if (!append_key(key, value)) {
      return std::nullopt;
    }
  }
  state.key_ = nb::tuple(key);
  return state;
}

bool RngsState::add_stream(nb::handle stream, nb::list& key) {
  if (const auto known = position_in(nodes_, stream)) {
    key.append(nb::make_tuple("stream", *known));
    return true;
  }
  nodes_.push_back(nb::borrow(stream));
  for (const auto& [name, value] : py::dict_items(py::instance_dict(stream))) {
    key.append(name);
    if (upstream::is_pytree_state_name(name)) continue;
    const bool is_kept =
        upstream::is_variable(value) ? add_variable(value, key) : append_key(key, value);
    if (!is_kept) return false;
  }
  return true;
}

bool RngsState::add_variable(nb::handle variable, nb::list& key) {
  const upstream::Facade& f = upstream::facade();
  if (const auto known = position_in(nodes_, variable)) {
    key.append(nb::make_tuple("variable", *known));
    return true;
  }
  const bool is_known_type = variable.type().is(f.rng_key) || variable.type().is(f.rng_count);
  if (!is_known_type || !upstream::is_bare_variable(variable) ||
      !upstream::may_change_in_current_trace(variable)) {
    return false;
  }
  const nb::object value = upstream::raw_value(variable);
  if (!upstream::is_tracer(value)) return false;  // code can tell a tracer from a value
  for (const auto& [name, entry] : py::dict_items(upstream::metadata_view(variable))) {
    key.append(name);
    if (!append_key(key, entry)) return false;
  }
  key.append(py::id(variable.type()));
  key.append(f.type_of(value));
  const nb::object constant = upstream::TraceSlice::constant_of(value);
  if (!constant.is_valid()) {
    constants_.append(nb::none());
  } else if (variable.type().is(f.rng_count)) {
    constants_.append(constant.attr("item")());
  } else {
    return false;
  }
  nodes_.push_back(nb::borrow(variable));
  variables_.push_back(nb::borrow(variable));
  return true;
}

bool RngsState::has_nodes_of(const RngsState& other) const {
  return std::ranges::equal(
      nodes_, other.nodes_,
      [](const nb::object& left, const nb::object& right) { return left.is(right); });
}

nb::tuple RngsState::values() const {
  nb::list values;
  for (const nb::object& variable : variables_) values.append(upstream::raw_value(variable));
  return nb::tuple(values);
}

void RngsState::store(const std::vector<nb::object>& values) const {
  for (size_t i = 0; i < variables_.size(); ++i) upstream::store_value(variables_[i], values.at(i));
}

std::vector<nb::object> RngsState::counts() const {
  std::vector<nb::object> counts;
  for (const nb::object& variable : variables_) {
    if (variable.type().is(upstream::facade().rng_count)) counts.push_back(variable);
  }
  return counts;
}

}  // namespace nnx_wrappers::bridge
