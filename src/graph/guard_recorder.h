// Records what code depends on while it runs, and makes guards of it.
//
// The recorder inspects everything that the watched functions (py/call_recorder.h) can reach: the
// objects that they are given, the globals that their code names, the attributes of modules and
// classes by the names that code has, closures and defaults, and the contents of every mutable
// object among these. It inspects what a function may read before the function runs, so that the
// guards notice a change that the code itself makes. Functions that do not run are compared by
// identity alone: while everything that was read is unchanged, the same functions run.
//
// The code, the functions and the classes of Flax, JAX, numpy and the standard library are taken as
// constant.
#pragma once

#include <nanobind/nanobind.h>

#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "graph/guard.h"
#include "graph/name_index.h"
#include "py/call_recorder.h"
#include "py/versions.h"

namespace nnx_wrappers::graph {

class NamesGuard;

// The result of a recording: guards, or the reason why there are none.
struct Dependencies {
  std::shared_ptr<GuardSet> guards;  // null if no guards could tell that nothing has changed
  std::string reason;
  bool may_be_retried = false;    // another recording of the same code may succeed
  bool observed_tracing = false;  // the code found out that values are traced, and may depend on it
  bool observed_context = false;  // the code asked for the Linen module that runs it
};

class GuardRecorder : public py::CallObserver {
 public:
  GuardRecorder();
  ~GuardRecorder() override;

  // Adds an object that the code is given. Only before `start`.
  void add_root(nb::handle object, const std::string& path);

  // Records what runs in this thread from now on, until `finish` or the end of this object.
  void start();

  // Ends the recording. Compares all guards once, since what the code itself has changed cannot be
  // guarded.
  Dependencies finish();

  // Guards the results that the code has added to caches so far.
  void inspect_cached_results();

  // True if nothing that the code has read so far has changed since, no cache has got another
  // result, and nothing that cannot be compared was read. Then code that reads the same does the
  // same as before.
  bool is_unchanged_so_far() const;

  // True if the code, or code that it runs, has drawn from numpy's global generator so far.
  bool has_drawn_from_numpy() const;

  // How many Linen modules the code has made so far. The innermost Linen module knows each.
  size_t linen_modules_made() const;

  // True if the code may have read the local variables of a function other than as variables.
  bool has_read_locals() const;

  // The guards of what the roots hold, where nothing is recorded. Null if something cannot be
  // compared.
  std::shared_ptr<const GuardSet> guards_of_roots() const {
    return is_refused() ? nullptr : guards_;
  }

  // True for an object that a guard compares: it existed before the code ran, or a cache that did
  // has kept it.
  bool is_guarded(nb::handle object) const { return seen_.contains(object.ptr()); }

  // True for an object that the code may have made: a guard compares those that existed before, if
  // the code can reach them. Modules, classes and wrappers of functions are told by their names as
  // well. Functions and classes of the user's code only: those of Flax, JAX and the standard
  // library have no state.
  bool may_have_made(nb::handle object) const;

  Origin origin_of(const py::RunningFunction& function) override;
  void on_function(const py::RunningFunction& function, Origin origin) override;
  void on_c_function(nb::handle callable, nb::handle owner, const py::RunningFunction& caller,
                     Origin origin) override;

 private:
  static constexpr size_t kMaxComparisons = 50'000;
  static constexpr Py_ssize_t kNotIndexed = -1;

  // A dict that maps names to objects: of a module, of a class, or the globals of functions.
  struct Namespace {
    nb::object dict;
    std::string path;
    std::string module;           // the name of the module; empty for others
    NamesGuard* guard = nullptr;  // null for a class, whose version is compared
    bool follows_values = false;  // the objects under the names are inspected too
    bool is_module = false;       // code has the module as an object, and not its globals alone
    bool has_all_names = false;   // all names have been noted, not only those that code has
    // The size of an open one when its names were put into the index, or kNotIndexed.
    Py_ssize_t indexed_size = 0;
    std::unordered_set<PyObject*> names;  // that have been noted
    std::unordered_set<PyObject*> codes;  // whose globals it is
  };
  struct Pending {
    nb::object object;
    std::string path;
  };

  // Ends with this reason; only the first one counts.
  void refuse(const std::string& reason);
  bool is_refused() const { return !reason_.empty(); }
  bool may_observe_context() const;
  bool makes_linen_modules() const { return !linen_constructors_.empty(); }
  void note_tracing_observed(const std::string& reason);
  template <typename G, typename... Args>
  G& guard(Args&&... args);

  // The names that code has, and the objects that they lead to: guard_names.cc.
  static bool may_call_indirectly(nb::handle code);
  void note_indirect_calls(const py::RunningFunction& function);
  static std::vector<nb::object> names_in(nb::handle code);
  void add_names_of(nb::handle code);
  void collect_names_of(nb::handle code);
  void note_outer_code(nb::handle code);
  void add_names_in(nb::handle texts);
  void add_name(nb::handle name);
  void apply_new_names();
  bool has_name(const char* text) const;
  bool has_any_name(std::span<const char* const> texts) const;
  Namespace& namespace_of(nb::handle dict, nb::handle owner, const std::string& path);
  void guard_globals(const py::RunningFunction& function);
  void guard_imports(nb::handle code, nb::handle globals);
  void guard_environment();
  void guard_interceptors();
  void guard_abstract_classes();
  void open(Namespace& space);
  void note_name(Namespace& space, nb::handle name);
  void note_absence(Namespace& space, nb::handle name);
  void note_import(nb::handle name);
  void suspect(const Namespace& space, nb::handle name, nb::handle c_function);
  void note_all_names(Namespace& space);
  void note_all_names_of(nb::handle object);
  void note_all_names_within_reach(const py::RunningFunction& function);
  void note_names_read_by(std::string_view builtin, const py::RunningFunction& caller);

  // The objects that are reached from others: guard_walk.cc, and from instances on
  // guard_objects.cc.
  void enqueue(nb::handle object, const std::string& path);
  void inspect_queue();
  void inspect(nb::handle object, const std::string& path);
  void inspect_function(nb::handle function, const std::string& path);
  void inspect_function_parts(nb::handle function, const std::string& path);
  void inspect_class(nb::handle type, const std::string& path);
  void inspect_methods(const Namespace& space);
  void inspect_module(nb::handle module, const std::string& path);
  bool inspect_builtin(nb::handle object, const std::string& path);
  void inspect_thread_local(nb::handle object, const std::string& path);
  void inspect_lru_cache(nb::handle wrapper, const std::string& path);
  void inspect_numpy_array(nb::handle array, const std::string& path);
  void inspect_wrapped_functions(nb::handle object, const std::string& path);
  void inspect_instance(nb::handle object, const std::string& path);
  bool require_comparable_base(nb::handle object, const std::string& path);
  void inspect_elements(nb::handle object, const std::string& path);
  void inspect_python_state(nb::handle object, const std::string& path);
  void inspect_slots(nb::handle object, const std::string& path);
  void inspect_attributes(nb::handle object, const std::string& path);
  void inspect_values(nb::handle dict, const std::string& path, bool as_attributes);

  std::shared_ptr<GuardSet> guards_;
  std::string reason_;  // empty while guards are possible
  size_t comparisons_ = 0;
  std::deque<Pending> queue_;                       // objects to be inspected
  std::unordered_map<PyObject*, nb::object> seen_;  // objects that were enqueued, owned
  std::unordered_set<PyObject*> names_;             // interned names that code has
  std::vector<nb::object> new_names_;               // the part of them that is not yet applied
  std::unordered_map<PyObject*, std::unique_ptr<Namespace>> namespaces_;  // by dict
  std::vector<Namespace*> open_namespaces_;  // in which the names of later code are looked up too
  NameIndex<Namespace> holders_;             // the open namespaces that have a name
  std::unordered_map<PyObject*, nb::object> codes_run_;  // each owned: `eval` lets its code go
  std::unordered_set<PyObject*> outer_codes_;            // those that ran outside of Linen modules
  std::unordered_map<PyObject*, std::vector<Pending>> functions_not_run_;  // by code
  std::vector<nb::object> kept_;
  std::string suspected_reason_;  // of a C function that code names, and that may be called
  struct LruCache {
    nb::object wrapper;
    nb::object table;  // a dict; invalid if it keeps nothing
    size_t size;       // of the table when it was inspected
    bool is_bounded;   // which result it drops depends on each call
    bool has_grown() const { return table.is_valid() && nb::len(table) != size; }
    bool may_differ() const { return is_bounded || has_grown(); }
  };
  std::vector<LruCache> lru_caches_;
  // (dict, name) of functions that code may pass to `map` and the like, which call them unseen.
  std::set<std::pair<PyObject*, PyObject*>> called_indirectly_;
  bool observed_tracing_ = false;
  bool observed_context_ = false;
  std::vector<nb::object> linen_constructors_;  // code that has made Linen modules
  bool asks_where_it_belongs_ = false;  // code outside of Linen modules has one of kParentNames
  bool reads_axes_ = false;
  bool reads_meshes_ = false;
  bool reads_locals_ = false;  // by a builtin such as `locals`
  bool is_tracing_;            // true if the caller of the code is traced too
  bool guards_abstract_classes_ = false;
  bool inspects_all_functions_ = false;  // code looks into functions that do not run
  nb::object numpy_random_state_;
  unsigned long thread_switches_ = 0;
  // Finalizers and callbacks of the garbage collector are no part of the code.
  std::optional<py::GarbageCollectionPause> gc_pause_;
  std::optional<py::CallRecorder> recorder_;
};

template <typename G, typename... Args>
G& GuardRecorder::guard(Args&&... args) {
  auto made = std::make_unique<G>(std::forward<Args>(args)...);
  G& guard = *made;
  comparisons_ += guard.size();
  guards_->add(std::move(made));
  if (comparisons_ > kMaxComparisons) refuse("it depends on too much to compare");
  return guard;
}

}  // namespace nnx_wrappers::graph
