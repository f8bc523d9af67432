#include "graph/template_comparison.h"

#include <algorithm>

#include "graph/guard_kinds.h"
#include "graph/guard_recorder.h"
#include "graph/static_key.h"
#include "graph/static_value.h"
#include "graph/template_node.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/program.h"
#include "upstream/pytree_state.h"

namespace nnx_wrappers::graph {

namespace {

using Attribute = Template::Node::Attribute;

bool is_numpy(nb::handle value) { return value.type().is(upstream::facade().numpy_array); }

// True if a container, a partial or a frozen dataclass holds what its copy holds: the copy has
// copies of these and of numpy arrays, and shares all else.
bool holds_same(nb::handle original, nb::handle copy) {
  const py::RecursionGuard guard(" while comparing an NNX module graph");
  if (!original.type().is(copy.type())) return false;
  const auto is_same = [](nb::handle one, nb::handle other) { return holds_same(one, other); };
  if (py::is_list_or_tuple(original))
    return std::ranges::equal(py::elements(original), py::elements(copy), is_same);
  if (PyDict_CheckExact(original.ptr())) {
    return std::ranges::equal(py::dict_items(original), py::dict_items(copy),
                              [&](const py::Item& one, const py::Item& other) {
                                return one.first.is(other.first) &&
                                       is_same(one.second, other.second);
                              });
  }
  if (PySet_CheckExact(original.ptr())) return py::equal(original, copy);
  if (original.is(copy)) return true;
  if (original.type().is(upstream::facade().partial)) {
    const auto has_same = [&](const char* part) {
      return is_same(py::get(original, nb::str(part)), py::get(copy, nb::str(part)));
    };
    return !py::dict_of_partial(original).is_valid() && has_same("func") && has_same("args") &&
           has_same("keywords");
  }
  if (py::is_frozen_dataclass(original.type()) && py::holds_only_attributes(original.type())) {
    const nb::object attributes = py::optional_instance_dict(original);
    const bool has_same_dict =
        !attributes.is_valid() || is_same(attributes, py::instance_dict(copy));
    return has_same_dict &&
           std::ranges::all_of(py::slots_of(original.type()), [&](const nb::object& slot) {
             const nb::object held = py::slot_value(slot, original);
             const nb::object other = py::slot_value(slot, copy);
             return held.is_valid() == other.is_valid() &&
                    (!held.is_valid() || is_same(held, other));
           });
  }
  if (is_numpy(original)) return py::equal(bytes_of_numpy(original), bytes_of_numpy(copy));
  return original.is(copy);
}

nb::object flattened(nb::handle value) { return upstream::facade().tree_flatten(value); }

// True if a pytree has the structure of its copy, and leaves that hold the same.
bool has_same_leaves(nb::handle original, nb::handle copy) {
  const nb::object flat = flattened(original);
  const nb::object flat_copy = flattened(copy);
  return py::equal(flat[1], flat_copy[1]) && holds_same(flat[0], flat_copy[0]);
}

bool is_same(const Attribute& one, const Attribute& other) {
  const bool has_same_name = one.name.is_valid() == other.name.is_valid() &&
                             (!one.name.is_valid() || py::equal(one.name, other.name));
  return has_same_name && one.source == other.source && one.value.is(other.value) &&
         one.child == other.child;
}

bool is_same_metadata(const nb::object& one, const nb::object& other) {
  if (!one.is_valid() || !other.is_valid()) return one.is_valid() == other.is_valid();
  if (one.is(other)) return true;
  if (PyDict_CheckExact(one.ptr()) && PyDict_CheckExact(other.ptr())) return holds_same(one, other);
  const nb::object key = static_key(one);
  const nb::object other_key = static_key(other);
  return key.is_valid() && other_key.is_valid() && py::equal(key, other_key);
}

bool is_same(const Template::Node& one, const Template::Node& other) {
  return one.form == other.form && one.kind == other.kind && one.slot == other.slot &&
         one.type.is(other.type) && one.impl.is(other.impl) &&
         is_same_metadata(one.metadata, other.metadata) &&
         is_same_metadata(one.shared_metadata, other.shared_metadata) &&
         std::ranges::equal(
             one.attributes, other.attributes,
             [](const Attribute& left, const Attribute& right) { return is_same(left, right); });
}

bool is_same(const Slot& one, const Slot& other) {
  return one.is_in_closure == other.is_in_closure && one.type.is(other.type) &&
         to_string(one.path) == to_string(other.path);
}

bool are_identical(const std::vector<nb::object>& some, const std::vector<nb::object>& others) {
  return std::ranges::equal(
      some, others, [](const nb::object& one, const nb::object& other) { return one.is(other); });
}

}  // namespace

Contents::Contents(const Template& of, const Captured& captured) {
  StaticCopies copies(of.kept_);
  GuardRecorder comparisons;
  for (const Template::Node& node : of.nodes_) {
    for (const Attribute& attribute : node.attributes) {
      const nb::object& value = attribute.value;
      if (attribute.source == Attribute::kCopied) copied_.push_back({value, copies.copy(value)});
      if (attribute.source == Attribute::kShared) comparisons.add_root(value, "a shared object");
      if (attribute.source == Attribute::kState)
        flags_.push_back({value, upstream::initializing_flag(value)});
    }
    if (!node.shared_metadata.is_valid()) continue;
    for (const auto& item : py::dict_items(node.shared_metadata))
      comparisons.add_root(item.second, "metadata");
  }
  for (const nb::object& node : captured.nodes) {
    if (PyFunction_Check(node.ptr()) != 0) comparisons.add_root(node, "a closure");
  }
  for (const nb::object& value : captured.values) {
    if (upstream::is_jax_array(value)) continue;
    values_.push_back({value, upstream::copied_value(value)});
    for (const nb::object& leaf : py::elements(flattened(value)[0])) {
      if (!upstream::is_array(leaf) && !upstream::is_tracer(leaf))
        comparisons.add_root(leaf, "a value");
    }
  }
  shared_ = comparisons.guards_of_roots();
}

bool Contents::are_unchanged() const {
  return shared_ != nullptr && !shared_->first_change() &&
         std::ranges::all_of(
             flags_,
             [](const Flags& flags) {
               return upstream::initializing_flag(flags.state).is(flags.initializing);
             }) &&
         std::ranges::all_of(
             values_,
             [](const Copied& copied) { return has_same_leaves(copied.original, copied.copy); }) &&
         std::ranges::all_of(copied_, [](const Copied& copied) {
           return holds_same(copied.original, copied.copy);
         });
}

bool are_same(const Template& one, const Captured& captured, const Template& other,
              const Captured& other_captured) {
  return std::ranges::equal(one.nodes_, other.nodes_,
                            [](const Template::Node& left, const Template::Node& right) {
                              return is_same(left, right);
                            }) &&
         std::ranges::equal(
             one.slots_, other.slots_,
             [](const Slot& left, const Slot& right) { return is_same(left, right); }) &&
         are_identical(captured.values, other_captured.values) &&
         are_identical(captured.nodes, other_captured.nodes);
}

}  // namespace nnx_wrappers::graph
