// Records what code depends on while it runs, as guards.
//
// Looked at is what the watched functions (py/call_recorder.h) can reach: the objects that they
// are given, the global names that their code has, the attributes by those names of modules and
// classes, closures, defaults, and from there the contents of every mutable object. What a
// function may read is looked at before it runs, so that a change that the run makes itself is
// seen as one. Functions that do not run are compared by identity alone: as long as everything
// that was read is the same, the same functions run.
//
// The code, the functions and the classes of Flax, JAX, numpy and the standard library are taken
// as constant.
#pragma once

#include <nanobind/nanobind.h>

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graph/guard.h"
#include "py/call_recorder.h"
#include "py/versions.h"

namespace nnx_wrappers::graph {

class NamesGuard;

// What a recording gives: guards, or the reason why there can be none.
struct Dependences {
  std::shared_ptr<const GuardSet> guards;  // null: they would not do
  std::string reason;
  bool may_be_retried = false;      // the reason is one of this run
  bool has_seen_the_trace = false;  // the code may have done otherwise since values were traced
};

class GuardRecorder : public py::CallObserver {
 public:
  GuardRecorder();
  ~GuardRecorder() override;

  // Adds an object that the code is given. Before `start`.
  void add_root(nb::handle object, const std::string& path);

  // Records from now on what runs in this thread, until `finish` or the end of this object.
  void start();

  // Ends the recording, and compares once: what the run itself has changed cannot be guarded.
  Dependences finish();

  // True for an object that was there before the code ran, and is compared.
  bool has_seen(nb::handle object) const { return seen_.contains(object.ptr()); }

  Origin origin_of(const py::RunningFunction& function) override;
  void on_function(const py::RunningFunction& function, Origin origin) override;
  void on_c_function(nb::handle callable, nb::handle owner, const py::RunningFunction& by,
                     Origin origin) override;

 private:
  static constexpr size_t kMostComparisons = 50'000;

  // Names in a dict: a module's attributes, a class's, or the global names of functions.
  struct Namespace {
    nb::object dict;
    std::string path;
    std::string module;           // its name, if it is one
    NamesGuard* guard = nullptr;  // null for a class: its version is compared
    bool looks_further = false;   // into what the names lead to
    bool is_module = false;       // that code can have in its hands
    bool is_complete = false;     // every name counts, not only those that code has
    std::unordered_set<PyObject*> names;
    std::unordered_set<PyObject*> codes;  // whose globals they are
  };
  struct Waiting {
    nb::object object;
    std::string path;
  };

  void refuse(const std::string& reason);
  void see_trace(const std::string& reason);
  static bool calls_unseen(nb::handle code);
  void note_unseen(const py::RunningFunction& function);
  bool is_over() const { return !reason_.empty(); }
  template <typename G, typename... Args>
  G& guard(Args&&... args);

  // What the names of code lead to.
  void add_names_of(nb::handle code);
  void add_name(nb::handle name);
  void flush_names();
  Namespace& namespace_of(nb::handle dict, nb::handle owner, const std::string& path);
  void guard_globals(const py::RunningFunction& function);
  void guard_imports(nb::handle code, nb::handle globals);
  void guard_environment();
  void guard_abstract_classes();
  void add_names_in(nb::handle texts);
  void note(Namespace& space, nb::handle name);
  void note_absence(Namespace& space, nb::handle name);
  void note_import(nb::handle name);
  bool has_name(const char* text) const;
  void complete(nb::handle object);
  void complete_namespace(Namespace& space);
  void complete_namespaces_of(const py::RunningFunction& function);

  // What an object holds: guard_walk.cc.
  void visit(nb::handle object, const std::string& path);
  void visit_waiting();
  void look_at(nb::handle object, const std::string& path);
  void look_at_function(nb::handle function, const std::string& path);
  void look_at_parts(nb::handle function, const std::string& path);
  void look_at_class(nb::handle type, const std::string& path);
  void look_at_functions_of(const Namespace& space);
  void look_at_module(nb::handle module, const std::string& path);
  bool look_at_known(nb::handle object, const std::string& path);
  void look_at_numpy(nb::handle array, const std::string& path);
  void look_at_wrapped(nb::handle object, const std::string& path);
  void look_at_instance(nb::handle object, const std::string& path);
  bool check_base(nb::handle object, const std::string& path);
  void look_at_slots(nb::handle object, const std::string& path);
  void look_at_own(nb::handle object, const std::string& path);
  void look_at_memo(nb::handle wrapper, const std::string& path);
  void look_at_attributes(nb::handle object, const std::string& path);
  void look_at_values(nb::handle dict, const std::string& path, bool as_attributes);

  std::shared_ptr<GuardSet> guards_;
  std::string reason_;
  size_t comparisons_ = 0;
  std::deque<Waiting> waiting_;
  std::unordered_map<PyObject*, nb::object> seen_;
  std::unordered_set<PyObject*> names_;
  std::vector<nb::object> new_names_;
  std::unordered_map<PyObject*, std::unique_ptr<Namespace>> namespaces_;  // by dict
  std::vector<Namespace*> named_spaces_;  // in which the names of later code count too
  std::unordered_set<PyObject*> ran_;     // code objects, held by the recorder of calls
  std::unordered_map<PyObject*, std::vector<Waiting>> functions_;  // that did not run, by code
  std::vector<nb::object> kept_;
  std::string suspicion_;          // of a function of C that is named, and may be called
  std::vector<nb::object> memos_;  // wrappers of functools.lru_cache
  // Names in dicts that stand in code beside `map` and the like.
  std::set<std::pair<PyObject*, PyObject*>> called_unseen_;
  bool has_seen_the_trace_ = false;
  bool is_traced_;  // where the plan is asked for
  bool compares_abstract_classes_ = false;
  bool reads_functions_ = false;  // code looks into functions that do not run
  nb::object random_state_;
  unsigned long switches_ = 0;
  // What finalizers and callbacks of the garbage collector do is no part of the code.
  std::optional<py::NoCollection> no_collection_;
  std::optional<py::CallRecorder> recorder_;
};

template <typename G, typename... Args>
G& GuardRecorder::guard(Args&&... args) {
  auto made = std::make_unique<G>(std::forward<Args>(args)...);
  G& guard = *made;
  comparisons_ += guard.size();
  guards_->add(std::move(made));
  if (comparisons_ > kMostComparisons) refuse("it depends on too much to compare");
  return guard;
}

}  // namespace nnx_wrappers::graph
