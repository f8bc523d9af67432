// Construction plans. A plan is made by tracing the constructor of a ToLinen once. It has the
// module graph without values, and the program that computes values that the caller does not give.
#pragma once

#include <nanobind/nanobind.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "bridge/plan/constructor_call.h"
#include "bridge/plan/module_capture.h"
#include "bridge/plan/recorded_init.h"
#include "bridge/plan/variable_layout.h"
#include "graph/guard_recorder.h"
#include "graph/state_tree.h"
#include "upstream/equation_list.h"
#include "upstream/program.h"

namespace nnx_wrappers::bridge {

class ConstructionPlan {
 public:
  struct Built {
    // Null if there can be no plan: the constructor needs concrete values, has effects, uses values
    // of an outer trace, keeps static attributes of unknown mutable types, or asks about Linen's
    // context.
    std::unique_ptr<ConstructionPlan> plan;
    // The guards of the plan. If there are none, it must be used for this one call only.
    graph::Dependencies dependencies;
    // The plan is for calls of all names: the augment function does nothing.
    bool is_of_all_names = false;
  };

  // Traces the constructor. A BaseException that is no Exception passes through.
  static Built build(const ConstructorCall& call);

  // The plan of a constructor call that an `init` has recorded. `call` has the same key.
  static std::unique_ptr<ConstructionPlan> of(const InitProgram& recorded,
                                              const ConstructorCall& call);

  // True if a constant of the modules or of the program is an array that was deleted, as JAX does
  // with an argument that is donated: some module has given it out.
  bool has_deleted_arrays() const;

  struct Made {
    nanobind::object module;           // invalid if the plan cannot make one
    std::vector<graph::Path> missing;  // parameters that were not given
  };

  // Makes a module of the current trace. Its values are the variables of the scope; those that are
  // missing the program computes. Keys are drawn from `scope` only if the program needs them, but
  // the counters of all streams advance. Makes no module, and draws no key, unless each collection
  // that was given has exactly the paths that the module has in it.
  Made instantiate(const ConstructorCall& call, nanobind::handle scope,
                   nanobind::handle variables) const;

  // The same for all variables; those that it takes are marked as used in `given`. Makes no module,
  // and draws no key, if the program had to compute floating-point values: XLA may fuse its
  // operations, and then the last bits could differ from those of the constructor. With `in_steps`
  // the program is run operation by operation, as the constructor runs.
  Made instantiate(const ConstructorCall& call, nanobind::handle scope, graph::StateTree& given,
                   bool in_steps) const;

  // Makes the module of an `init`, whose values the program computes, in a trace that stages: its
  // equations are added to the jaxpr that is being traced.
  nanobind::object initialize(const ConstructorCall& call, nanobind::handle scope) const;

 private:
  // The part of the program that computes one set of missing values.
  struct Part {
    std::shared_ptr<const upstream::EquationList> equations;  // from keys to outputs
    nanobind::object compiled;  // the same by jax.jit; invalid if they are run one by one
    std::vector<bool> used_keys;
    std::optional<std::vector<nanobind::object>> constants;  // the outputs, if it uses no key

    // The outputs for the keys of all streams; those that are not used may be invalid.
    std::vector<nanobind::object> outputs(const std::vector<nanobind::object>& keys) const;
  };

  // The values that a caller has given for the slots.
  struct Taken {
    std::vector<nanobind::object> values;  // invalid for slots without a value
    std::vector<graph::Path> missing;      // parameters that were not given
  };

  ConstructionPlan() = default;
  // Derives from template and program what is needed for every module.
  void complete();
  // How the program is run.
  enum class Run {
    kCompiled,  // only for values that are the same bits then
    kInSteps,   // operation by operation
    kStaged     // as equations of the current trace
  };
  // Computes the missing values and makes the module.
  Made finish(const ConstructorCall& call, nanobind::handle scope, Taken taken, Run run) const;
  bool is_parameter(size_t slot) const;
  // True unless the value is a list or tuple of another structure than the slot's value.
  bool has_structure_of(size_t slot, nanobind::handle value) const;
  void prepare_closure_values();
  void add_closure_values(const std::vector<nanobind::object>& keys,
                          std::vector<nanobind::object>& values) const;
  std::shared_ptr<const Part> part_for(const std::vector<bool>& needed) const;
  std::shared_ptr<const Part> staged_part(const std::vector<bool>& needed) const;
  Part part_of(const upstream::Pruned& pruned) const;
  Part uncompiled_part(const std::vector<bool>& needed) const;
  // The keys of the streams that have some, if the part or the closures use them. Of all other
  // streams the counters of the scope advance.
  std::vector<nanobind::object> keys_for(const ConstructorCall& call, nanobind::handle scope,
                                         const Part& part) const;

  std::shared_ptr<const ModuleCapture> captured_;
  std::vector<nanobind::object> collections_;  // of each slot; invalid if it has none
  std::unique_ptr<const VariableLayout> layout_;
  nanobind::object program_;  // a ClosedJaxpr of keys, then counts
  bool moves_linen_modules_ = false;
  size_t keys_ = 0;                       // how many of its inputs are keys
  std::vector<bool> is_exact_;            // true for outputs that are integers or keys
  std::vector<nanobind::object> arrays_;  // the constants of the modules and of the program
  std::optional<Part> closure_part_;      // what closures hold, if they hold any
  // By the outputs that are needed. There are few, one for each set of collections that callers
  // leave out; if there are too many, all are forgotten.
  static constexpr size_t kMaxParts = 64;
  mutable std::map<std::vector<bool>, std::shared_ptr<const Part>> parts_;
  mutable std::shared_ptr<const Part> staged_part_;  // all outputs, as equations
};

}  // namespace nnx_wrappers::bridge
