#include "graph/guard_recorder.h"

#include <algorithm>
#include <array>
#include <utility>

#include "graph/guard_kinds.h"
#include "py/modules.h"
#include "py/names.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/c_functions.h"
#include "upstream/facade.h"
#include "upstream/leaked.h"
#include "upstream/linen.h"
#include "upstream/origin.h"
#include "upstream/trace_context.h"

namespace nnx_wrappers::graph {

namespace {

using Origin = py::CallObserver::Origin;

Origin converted(upstream::Origin origin) {
  switch (origin) {
    case upstream::Origin::kUser:
      return Origin::kUser;
    case upstream::Origin::kStandard:
      return Origin::kStandard;
    case upstream::Origin::kLibrary:
      return Origin::kLibrary;
    case upstream::Origin::kTooling:
      break;
  }
  return Origin::kTooling;
}

// Code that has one of these names may import a module by a name that it computes.
constexpr std::array<const char*, 3> kImporterNames = {"import_module", "find_spec", "__import__"};

// Code that has one of these names may ask whether a value is traced.
constexpr std::array<const char*, 3> kTraceReaderNames = {"Tracer", "is_concrete",
                                                          "ConcretizationTypeError"};

// Code that has one of these names reads Linen's context.
constexpr std::array<const char*, 2> kContextNames = {"_context", "module_stack"};

// Code that has one of these names may read the axes of an enclosing vmap past JAX's functions. An
// equation with such an axis is an effect, so that then there is no plan anyway.
constexpr std::array<const char*, 4> kAxisNames = {"get_axis_env", "axis_env", "trace_context",
                                                   "trace_ctx"};

// Code that has one of these names may have a function traced by JAX, which keeps the trace by the
// axes: a function that reads them runs for the first time alone.
constexpr std::array<const char*, 13> kTracingNames = {
    "jit",  "eval_shape", "make_jaxpr", "scan",  "associative_scan", "while_loop",      "fori_loop",
    "cond", "switch",     "checkpoint", "remat", "linearize",        "linear_transpose"};

// Code that has one of these names may read the meshes of `with mesh:` past JAX's functions, or
// make an old `pjit`, which runs under them.
constexpr std::array<const char*, 6> kMeshNames = {"thread_resources", "mesh_context_manager",
                                                   "physical_mesh",    "trace_context",
                                                   "trace_ctx",        "pjit"};

// Code that has one of these names may read where a Linen module belongs. Its name does not depend
// on that.
constexpr std::array<std::string_view, 14> kParentNames = {"parent",       "scope",
                                                           "path",         "variables",
                                                           "has_variable", "put_variable",
                                                           "get_variable", "is_initializing",
                                                           "has_rng",      "make_rng",
                                                           "unbind",       "sow",
                                                           "perturb",      "is_mutable_collection"};

// Code that has one of these names may read the parts of a function that does not run.
constexpr std::array<const char*, 7> kFunctionReaderNames = {
    "__defaults__", "__kwdefaults__", "__closure__",   "__code__",
    "__wrapped__",  "signature",      "getclosurevars"};

// Code that has one of these names may read attributes by names that no code has.
constexpr std::array<const char*, 5> kReaderNames = {"__dict__", "attrgetter", "__getattribute__",
                                                     "getattr_static", "getmembers"};

// True for the methods that a dataclass has by itself. Those of a Linen module write its fields.
bool is_of_dataclass(nb::handle code) {
  const nb::object name = py::get(code, nb::str("co_qualname"));
  return upstream::text_view(name).starts_with("__create_fn__.");
}

bool is_format(nb::handle callable) {
  return py::utf8(py::get(callable, py::names().name_dunder)).starts_with("format");
}

}  // namespace

GuardRecorder::GuardRecorder()
    : guards_(std::make_shared<GuardSet>()), is_tracing_(upstream::is_tracing()) {}

GuardRecorder::~GuardRecorder() = default;

void GuardRecorder::refuse(const std::string& reason) {
  if (reason_.empty()) reason_ = reason;
}

// Code that asks whether values are traced is told that they are. Guards are possible only if it
// would be told the same without a plan.
void GuardRecorder::note_tracing_observed(const std::string& reason) {
  if (std::exchange(observed_tracing_, true)) return;
  if (!is_tracing_) return refuse(reason);
  guard<ReadGuard>("whether values are traced", nb::none(),
                   [](nb::handle) -> nb::object { return nb::bool_(upstream::is_tracing()); });
}

void GuardRecorder::add_root(nb::handle object, const std::string& path) {
  if (is_atom(object.ptr()) || seen_.contains(object.ptr())) return;
  guard<IdentityGuard>(path, object);
  enqueue(object, path);
  inspect_queue();
}

void GuardRecorder::start() {
  if (!py::CallRecorder::is_supported()) return refuse("this Python is not known to the recorder");
  numpy_random_state_ = upstream::numpy_random_state();
  thread_switches_ = py::thread_switches();
  gc_pause_.emplace();
  recorder_.emplace(*this);
}

Dependencies GuardRecorder::finish() {
  const std::string reason_incomplete = recorder_ ? recorder_->reason_incomplete() : std::string();
  recorder_.reset();
  gc_pause_.reset();
  const unsigned long switches = py::thread_switches();
  if (!is_refused()) refuse(reason_incomplete);
  if (!is_refused() && has_drawn_from_numpy()) refuse("it draws from numpy.random");
  if (!is_refused()) refuse(suspected_reason_);
  if (!is_refused() && (reads_axes_ || has_any_name(kAxisNames) || has_any_name(kTracingNames))) {
    guard<ReadGuard>("a named axis", nb::none(), [](nb::handle) { return upstream::named_axes(); });
  }
  if (!is_refused() && (reads_meshes_ || has_any_name(kMeshNames)))
    guards_->depend_on_entered_meshes();
  // The next run of the code finds the results that this one has added to caches.
  inspect_cached_results();
  observed_context_ = may_observe_context();
  if (observed_context_) refuse("it asks about Linen's context");
  if (makes_linen_modules() && !is_refused()) guard_interceptors();
  if (is_refused()) {
    return {nullptr, reason_, false, observed_tracing_ && !is_tracing_, observed_context_};
  }
  if (switches != thread_switches_ && !guards_->sees_every_change()) {
    return {nullptr, "other threads ran while it was planned", true, false, false};
  }
  if (const auto change = guards_->first_change())
    return {nullptr, *change + " changes from call to call", true, false, false};
  return {std::move(guards_), "", false, false, false};
}

// An interceptor sees the methods of Linen modules that the code runs, so then it has to run.
void GuardRecorder::guard_interceptors() {
  if (upstream::has_interceptors()) return refuse("an interceptor of Linen's methods may see it");
  guard<ReadGuard>("nn.intercept_methods", nb::none(), [](nb::handle) -> nb::object {
    return nb::bool_(upstream::has_interceptors());
  });
}

// The parent of a new Linen module is the one that runs the code.
bool GuardRecorder::may_observe_context() const {
  return observed_context_ || has_any_name(kContextNames) ||
         (makes_linen_modules() && asks_where_it_belongs_);
}

bool GuardRecorder::is_unchanged_so_far() const {
  return !is_refused() && !may_observe_context() && suspected_reason_.empty() && recorder_ &&
         std::ranges::none_of(lru_caches_, &LruCache::may_differ) &&
         recorder_->reason_incomplete().empty() && !guards_->first_change();
}

bool GuardRecorder::has_drawn_from_numpy() const {
  return !py::equal(numpy_random_state_, upstream::numpy_random_state());
}

namespace {

// True for a module, a class or a wrapper that the program has under its name.
bool is_found_by_name(nb::handle module_name, nb::handle qualified_name, nb::handle object) {
  nb::object part = py::dict_get(nb::borrow<nb::dict>(PyImport_GetModuleDict()), module_name);
  for (const nb::object& name : py::elements(qualified_name.attr("split")("."))) {
    if (!part.is_valid() || nb::len(name) == 0) break;
    const nb::object space = py::get_optional(part, py::names().dict_dunder);
    if (!space.is_valid() || !py::contains(space, name)) return false;
    part = space[name];
  }
  return part.is(object);
}

// False for a function that `eval` or `exec` has made with globals of its own.
bool has_globals_of_a_module(nb::handle function) {
  const nb::handle globals = PyFunction_GetGlobals(function.ptr());
  const nb::object module = py::imported_module(py::module_name(globals));
  return module.is_valid() && PyModule_Check(module.ptr()) != 0 &&
         PyModule_GetDict(module.ptr()) == globals.ptr();
}

// True for the code of a function that this code makes when it runs.
bool makes(nb::handle code, nb::handle inner) {
  const auto* parts = reinterpret_cast<PyCodeObject*>(code.ptr());
  return std::ranges::any_of(py::borrowed_elements(parts->co_consts),
                             [&](PyObject* part) { return inner.is(part); });
}

}  // namespace

bool GuardRecorder::may_have_made(nb::handle object) const {
  if (is_guarded(object)) return false;
  if (PyFunction_Check(object.ptr()) != 0) {
    const nb::handle code = PyFunction_GetCode(object.ptr());
    return !has_globals_of_a_module(object) ||
           std::ranges::any_of(codes_run_,
                               [&](const auto& run) { return makes(run.second, code); });
  }
  if (PyModule_Check(object.ptr()) != 0) {
    const nb::object name = nb::steal(PyModule_GetNameObject(object.ptr()));
    if (!name.is_valid()) PyErr_Clear();
    return !name.is_valid() || !is_found_by_name(name, nb::str(""), object);
  }
  if (py::is_class(object)) {
    if (!upstream::is_user_class(object)) return false;
  } else if (!upstream::wraps_functions(object.type())) {
    return true;
  }
  const nb::object module = py::get_optional(object, nb::str("__module__"));
  nb::object name = py::get_optional(object, py::names().qualname_dunder);
  if (!name.is_valid()) name = py::get_optional(object, py::names().name_dunder);
  return !module.is_valid() || !name.is_valid() || !is_found_by_name(module, name, object);
}

size_t GuardRecorder::linen_modules_made() const {
  size_t count = 0;
  if (!recorder_) return count;
  for (const nb::object& code : linen_constructors_) count += recorder_->runs_of(code);
  return count;
}

Origin GuardRecorder::origin_of(const py::RunningFunction& function) {
  if (upstream::is_tracer_error_constructor(function.code(), function.globals())) {
    note_tracing_observed("it asks for a value that is not concrete");
  }
  reads_axes_ = reads_axes_ || upstream::reads_named_axes(function.code(), function.globals());
  reads_meshes_ =
      reads_meshes_ || upstream::reads_entered_meshes(function.code(), function.globals());
  const upstream::ContextRead read = upstream::context_read(function.code(), function.globals());
  observed_context_ = observed_context_ || read == upstream::ContextRead::kModule;
  if (read == upstream::ContextRead::kParent)
    linen_constructors_.push_back(nb::borrow(function.code()));
  return converted(upstream::origin_of_globals(function.globals()));
}

// In a Linen module that the code makes and runs, the answers do not depend on the outer one.
void GuardRecorder::note_outer_code(nb::handle code) {
  if (asks_where_it_belongs_ || outer_codes_.contains(code.ptr())) return;
  if (makes_linen_modules() && !upstream::NoLinenModule::is_innermost()) return;
  outer_codes_.insert(code.ptr());
  if (is_of_dataclass(code)) return;
  asks_where_it_belongs_ = std::ranges::any_of(names_in(code), [](const nb::object& name) {
    return std::ranges::find(kParentNames, upstream::text_view(name)) != kParentNames.end();
  });
}

void GuardRecorder::on_function(const py::RunningFunction& function, Origin origin) {
  const nb::handle code = function.code();
  if (origin == Origin::kUser) note_outer_code(code);
  if (is_refused()) {  // what it knows of Linen's context still counts
    if (origin == Origin::kUser && codes_run_.emplace(code.ptr(), nb::borrow(code)).second)
      collect_names_of(code);
    return;
  }
  if (origin == Origin::kStandard) {
    if (py::module_name(function.globals()) == "os") guard_environment();
    return;
  }
  const auto space = namespaces_.find(function.globals().ptr());
  const bool is_known = space != namespaces_.end() && space->second->codes.contains(code.ptr());
  if (is_known) return;
  codes_run_.emplace(code.ptr(), nb::borrow(code));
  if (may_call_indirectly(code)) note_indirect_calls(function);
  add_names_of(code);
  guard_globals(function);
  guard_imports(code, function.globals());
  if (has_any_name(kFunctionReaderNames) && !std::exchange(inspects_all_functions_, true)) {
    for (const auto& [of_code, functions] : std::exchange(functions_not_run_, {})) {
      for (const Pending& function : functions)
        inspect_function_parts(function.object, function.path);
    }
  }
  for (const char* name : kTraceReaderNames) {
    if (!has_name(name)) continue;
    note_tracing_observed(std::string("it names ") + name);
  }
  for (const char* name : kImporterNames) {
    if (has_name(name)) return refuse(std::string("it calls ") + name);
  }
  const auto now_running = functions_not_run_.extract(code.ptr());
  if (!now_running.empty()) {
    for (const Pending& one : now_running.mapped()) inspect_function_parts(one.object, one.path);
  }
  inspect_queue();
  const bool may_read_by_any_name = has_any_name(kReaderNames);
  if (may_read_by_any_name) note_all_names_within_reach(function);
  if (may_call_indirectly(code) && has_name("getattr")) note_all_names_within_reach(function);
  inspect_queue();
}

void GuardRecorder::on_c_function(nb::handle callable, nb::handle owner,
                                  const py::RunningFunction& caller, Origin origin) {
  if (is_refused()) return;
  const std::string reason =
      upstream::reason_not_repeatable(callable, owner, origin == Origin::kUser);
  if (!reason.empty()) return refuse(reason);
  reads_meshes_ = reads_meshes_ || upstream::runs_under_entered_meshes(callable);
  if (owner.is_valid() && PyContextVar_CheckExact(owner.ptr()))
    enqueue(owner, "a context variable");
  if (PyCFunction_Check(callable.ptr()) && owner.is_valid() && PyModule_Check(owner.ptr())) {
    const auto* function = reinterpret_cast<PyCFunctionObject*>(callable.ptr());
    const std::string_view name = function->m_ml->ml_name;
    const bool asks_for_class = name == "isinstance" || name == "issubclass";
    if (asks_for_class && !std::exchange(guards_abstract_classes_, true)) guard_abstract_classes();
    note_names_read_by(name, caller);
  }
  if (owner.is_valid() && PyUnicode_Check(owner.ptr()) && is_format(callable)) {
    note_all_names_within_reach(caller);  // a format may have the name of any attribute
  }
  inspect_queue();
}

}  // namespace nnx_wrappers::graph
