// The constructor of a ToLinen, run once, abstractly: the module graph without
// values, and the program that computes the values that a caller may leave out.
#pragma once

#include <nanobind/nanobind.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "bridge/plan/constructor_call.h"
#include "bridge/plan/variable_layout.h"
#include "graph/guard_recorder.h"
#include "graph/state_tree.h"
#include "graph/template.h"

namespace nnx_wrappers::bridge {

class ConstructionPlan {
 public:
  // What a run of the constructor gave.
  struct Built {
    // Null if there can be none: the constructor needs concrete values, has effects, holds tracers
    // of an outer trace, keeps static attributes of unknown mutable types, or asks where it stands
    // in Linen.
    std::unique_ptr<ConstructionPlan> plan;
    // What the plan holds for. Without guards it is that of one call: what the constructor read may
    // be another the next time.
    graph::Dependences dependences;
  };

  // Traces the constructor. A BaseException that is no Exception passes through.
  static Built build(const ConstructorCall& call);

  // What `instantiate` makes.
  struct Made {
    nanobind::object module;           // invalid: see there
    std::vector<graph::Path> missing;  // parameters that nobody gave
  };

  // A module in the present trace. Values come from the variables of the scope, else
  // from the program. Keys are drawn from `scope` only if the program needs them; its
  // counters advance in any case. No module, with nothing drawn, if the
  // variables are not just what the module has, collection by collection.
  Made instantiate(const ConstructorCall& call, nanobind::handle scope,
                   nanobind::handle variables) const;

  // The same for any variables: what is taken from `given` is marked as used there. No
  // module, with nothing drawn, if the program would have to compute floating-point values: XLA may
  // fuse them otherwise than the constructor's own steps, and then the last bits differ. With
  // `in_steps` they are computed as the constructor does it, operation by operation.
  Made instantiate(const ConstructorCall& call, nanobind::handle scope, graph::StateTree& given,
                   bool in_steps) const;

 private:
  // A part of the program: the outputs that one set of missing values needs.
  struct Part {
    nanobind::object function;  // keys -> outputs
    std::vector<bool> used_keys;
    std::optional<std::vector<nanobind::object>> constants;  // if it depends on no key
  };

  ConstructionPlan() = default;
  nanobind::tuple capture(nanobind::handle module, const ConstructorCall& call,
                          const graph::GuardRecorder& recorder);
  void complete();
  Made finish(const ConstructorCall& call, nanobind::handle scope,
              std::vector<nanobind::object>& values, std::vector<graph::Path> missing,
              bool in_steps) const;
  bool is_parameter(size_t slot) const;
  // Whether a list or tuple is of the structure that the slot's value has; true for other values.
  bool has_structure_of(size_t slot, nanobind::handle value) const;
  void prepare_hidden_values();
  void add_hidden_values(const std::vector<nanobind::object>& keys,
                         std::vector<nanobind::object>& values) const;
  // The value of a slot from outputs of the program, of which it takes its own.
  nanobind::object value_from(const std::vector<nanobind::object>& outputs, size_t& next,
                              size_t slot) const;
  std::shared_ptr<const Part> part_for(const std::vector<bool>& needed) const;
  Part part_in_steps(const std::vector<bool>& needed) const;
  // One key for each input of the program that the part or the hidden values use; the other
  // streams' counters advance.
  std::vector<nanobind::object> draw_keys(const ConstructorCall& call, nanobind::handle scope,
                                          const Part& part) const;

  graph::Template template_;
  std::vector<nanobind::object> collections_;  // of each slot; invalid for a bare leaf
  std::unique_ptr<const VariableLayout> layout_;
  std::vector<nanobind::object> trees_;  // of each traced slot's value
  std::vector<size_t> first_output_;     // of each slot, and where they end
  nanobind::object program_;             // ClosedJaxpr
  std::vector<bool> is_exact_;           // of each output: integers and keys
  std::optional<Part> hidden_;           // what closures hold, if they hold any
  // Few: which collections a caller leaves out. Forgotten when there are too many.
  static constexpr size_t kMostParts = 64;
  mutable std::map<std::vector<bool>, std::shared_ptr<const Part>> parts_;
};

}  // namespace nnx_wrappers::bridge
