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
#include "upstream/leaked.h"
#include "upstream/origin.h"

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
    case upstream::Origin::kBeside:
      break;
  }
  return Origin::kBeside;
}

// The functions that read attributes by names that no code has, and the names in code that let a
// function do so without them.
constexpr std::array<std::string_view, 4> kReadByAnyName = {"getattr", "hasattr", "vars", "dir"};
constexpr std::array<std::string_view, 4> kReadAnyGlobal = {"globals", "eval", "exec", "locals"};
constexpr std::array<const char*, 5> kNamesOfReaders = {
    "__dict__", "attrgetter", "__getattribute__", "getattr_static", "getmembers"};
// Names by which code looks into a function that it does not call; and those by which it looks
// whether a value is traced, which it is only here.
constexpr std::array<const char*, 7> kNamesOfFunctionReaders = {
    "__defaults__", "__kwdefaults__", "__closure__",   "__code__",
    "__wrapped__",  "signature",      "getclosurevars"};
constexpr std::array<const char*, 3> kNamesOfImporters = {"import_module", "find_spec",
                                                          "__import__"};
constexpr std::array<const char*, 3> kNamesOfTraceReaders = {"Tracer", "is_concrete",
                                                             "ConcretizationTypeError"};

bool is_format(nb::handle callable) {
  return py::utf8(py::get(callable, py::names().name_dunder)).starts_with("format");
}

}  // namespace

GuardRecorder::GuardRecorder()
    : guards_(std::make_shared<GuardSet>()), is_traced_(upstream::is_traced()) {}

GuardRecorder::~GuardRecorder() = default;

void GuardRecorder::refuse(const std::string& reason) {
  if (reason_.empty()) reason_ = reason;
}

// What looks whether values are traced sees that they are. That is right where they are anyway.
void GuardRecorder::see_trace(const std::string& reason) {
  if (std::exchange(has_seen_the_trace_, true)) return;
  if (!is_traced_) return refuse(reason);
  guard<BytesGuard>("whether values are traced", nb::none(),
                    [](nb::handle) -> nb::object { return nb::bool_(upstream::is_traced()); });
}

void GuardRecorder::add_root(nb::handle object, const std::string& path) {
  if (is_atom(object.ptr()) || seen_.contains(object.ptr())) return;
  guard<ObjectGuard>(path, object);
  visit(object, path);
  visit_waiting();
}

void GuardRecorder::start() {
  if (!py::CallRecorder::is_possible()) return refuse("this Python is not known to the recorder");
  random_state_ = upstream::numpy_random_state();
  switches_ = py::thread_switches();
  no_collection_.emplace();
  recorder_.emplace(*this);
}

Dependences GuardRecorder::finish() {
  const std::string incomplete = recorder_ ? recorder_->check() : std::string();
  recorder_.reset();
  no_collection_.reset();
  const unsigned long switches = py::thread_switches();
  if (!is_over()) refuse(incomplete);
  if (!is_over() && !py::equal(random_state_, upstream::numpy_random_state())) {
    refuse("it draws from numpy.random");
  }
  if (!is_over()) refuse(suspicion_);
  // What was remembered while it ran is what the next run finds.
  for (const nb::object& memo : std::exchange(memos_, {}))
    look_at_memo(memo, "a remembered result");
  visit_waiting();
  if (is_over()) return {nullptr, reason_, false, has_seen_the_trace_ && !is_traced_};
  if (switches != switches_ && !guards_->sees_every_change()) {
    return {nullptr, "other threads ran while it was planned", true, false};
  }
  std::string changed;
  if (!guards_->holds(changed))
    return {nullptr, changed + " changes from call to call", true, false};
  return {std::move(guards_), "", false, false};
}

Origin GuardRecorder::origin_of(const py::RunningFunction& function) {
  if (upstream::is_about_a_tracer(function.code(), function.globals())) {
    see_trace("it asks for a value that is not concrete");
  }
  return converted(upstream::origin_of_globals(function.globals()));
}

void GuardRecorder::on_function(const py::RunningFunction& function, Origin origin) {
  if (is_over()) return;
  const nb::handle code = function.code();
  if (origin == Origin::kStandard) {
    if (py::module_name(function.globals()) == "os") guard_environment();
    return;
  }
  const auto space = namespaces_.find(function.globals().ptr());
  const bool is_known = space != namespaces_.end() && space->second->codes.contains(code.ptr());
  if (is_known) return;
  ran_.insert(code.ptr());
  if (calls_unseen(code)) note_unseen(function);
  add_names_of(code);
  guard_globals(function);
  guard_imports(code, function.globals());
  for (const char* reader : kNamesOfFunctionReaders) {
    if (!has_name(reader) || std::exchange(reads_functions_, true)) continue;
    for (const auto& [of_code, waiting] : std::exchange(functions_, {})) {
      for (const Waiting& one : waiting) look_at_parts(one.object, one.path);
    }
  }
  for (const char* name : kNamesOfTraceReaders) {
    if (!has_name(name)) continue;
    see_trace(std::string("it names ") + name);
  }
  for (const char* name : kNamesOfImporters) {
    if (has_name(name)) return refuse(std::string("it calls ") + name);
  }
  const auto waiting = functions_.extract(code.ptr());
  if (!waiting.empty()) {
    for (const Waiting& one : waiting.mapped()) look_at_parts(one.object, one.path);
  }
  visit_waiting();
  for (const char* reader : kNamesOfReaders) {
    if (has_name(reader)) complete_namespaces_of(function);
  }
  if (calls_unseen(code) && has_name("getattr")) complete_namespaces_of(function);
  visit_waiting();
}

void GuardRecorder::on_c_function(nb::handle callable, nb::handle owner,
                                  const py::RunningFunction& by, Origin origin) {
  if (is_over()) return;
  const std::string reason =
      upstream::reason_not_repeatable(callable, owner, origin == Origin::kUser);
  if (!reason.empty()) return refuse(reason);
  if (owner.is_valid() && PyContextVar_CheckExact(owner.ptr())) visit(owner, "a context variable");
  if (PyCFunction_Check(callable.ptr()) && owner.is_valid() && PyModule_Check(owner.ptr())) {
    const auto* function = reinterpret_cast<PyCFunctionObject*>(callable.ptr());
    const std::string_view name = function->m_ml->ml_name;
    const bool asks_for_class = name == "isinstance" || name == "issubclass";
    if (asks_for_class && !std::exchange(compares_abstract_classes_, true))
      guard_abstract_classes();
    const bool reads_globals = std::ranges::find(kReadAnyGlobal, name) != kReadAnyGlobal.end();
    const auto space = namespaces_.find(by.globals().ptr());
    if (reads_globals && space != namespaces_.end()) complete_namespace(*space->second);
    if (reads_globals || std::ranges::find(kReadByAnyName, name) != kReadByAnyName.end()) {
      complete_namespaces_of(by);
    }
  }
  if (owner.is_valid() && PyUnicode_Check(owner.ptr()) && is_format(callable)) {
    complete_namespaces_of(by);
  }
  visit_waiting();
}

}  // namespace nnx_wrappers::graph
