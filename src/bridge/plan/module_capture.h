// A module that a traced constructor has made, taken apart into a template and the values of it
// that the trace computes.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "graph/guard_recorder.h"
#include "graph/template.h"
#include "graph/template_comparison.h"

namespace nnx_wrappers::bridge {

class ModuleCapture {
 public:
  // Takes the module apart, and returns the values that the trace computes: the outputs of its
  // program. The module is not to be used any more. `arguments` are what the constructor was given.
  // All modules that are made later share them if the constructor keeps them; the attributes of an
  // argument count as given too, as in `self.mesh = config.mesh`. So they do with objects that a
  // guard of `recorder` compares. Throws graph::Refusal if the module cannot be kept.
  nanobind::tuple take_apart(nanobind::handle module,
                             const std::vector<nanobind::object>& arguments,
                             const graph::GuardRecorder& recorder);

  // The same for a module that stays as it is: it belongs to the program that is
  // being traced. The nodes `given` are no part of it: each module that is made later has others in
  // their place. Throws graph::Refusal, too, if somebody could tell it from one that is made later:
  // something holds a weak reference to a node of it, or a node has a finalizer.
  nanobind::tuple copy(nanobind::handle module, const std::vector<nanobind::object>& arguments,
                       const graph::GuardRecorder& recorder,
                       const std::vector<nanobind::object>& given = {});

  const std::vector<graph::Slot>& slots() const { return template_.slots(); }
  bool moves_linen_modules() const { return template_.moves_linen_modules(); }

  // The outputs of a slot: from the first one, up to the first one of the next slot.
  size_t first_output(size_t slot) const { return first_output_[slot]; }
  size_t outputs() const { return first_output_.back(); }

  // True if the value of a slot is computed by the program, and is no constant.
  bool is_computed(size_t slot) const { return !slots()[slot].constant.is_valid(); }

  // The arrays of JAX among the constants, which modules share.
  std::vector<nanobind::object> arrays() const;

  // The constant of a slot for one more module.
  nanobind::object constant(size_t slot) const;

  // The structure of the value of a slot, which is a pytree.
  nanobind::object structure(size_t slot) const;

  // The value of a slot from a list of outputs, from `next` on, which it advances.
  nanobind::object value_from(const std::vector<nanobind::object>& outputs, size_t& next,
                              size_t slot) const;

  // A module of the current trace with these outputs of the program, and the constants. `given` are
  // the nodes in the place of those that `copy` was given.
  nanobind::object instantiate_from(const std::vector<nanobind::object>& outputs, size_t& next,
                                    const std::vector<nanobind::object>& given = {}) const;

  // A module of the current trace with one value for each slot.
  nanobind::object instantiate(const std::vector<nanobind::object>& values) const {
    return template_.instantiate(values);
  }

 private:
  // What the trace computes of these values, which the capture took out of the module.
  nanobind::tuple outputs_of(const std::vector<nanobind::object>& values);

  graph::Template template_;
  // The pytree of a computed slot.
  struct Tree {
    nanobind::object structure;            // invalid for one array
    std::vector<nanobind::object> leaves;  // invalid for those that the program computes
  };
  std::vector<Tree> trees_;
  std::vector<size_t> first_output_;  // of each slot; the last entry is the number of outputs
};

// What a module is at one moment.
class ModuleState {
 public:
  using Objects = std::vector<nanobind::object>;

  // Throws graph::Refusal where ModuleCapture::take_apart does. Borrows `recorder`.
  ModuleState(nanobind::object module, Objects arguments, const graph::GuardRecorder& recorder);

  // True if code cannot tell that anything has run since: each node is the same object, and holds
  // the same objects.
  bool is_unchanged() const;

 private:
  nanobind::object module_;
  Objects arguments_;
  const graph::GuardRecorder& recorder_;
  graph::Captured captured_;
  graph::Template template_;
  graph::Contents contents_;
};

}  // namespace nnx_wrappers::bridge
