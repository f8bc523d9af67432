#include "graph/guard_recorder.h"

#include <algorithm>
#include <array>
#include <utility>

#include "flax/c_functions.h"
#include "flax/origin.h"
#include "graph/guard_kinds.h"
#include "py/names.h"
#include "py/object.h"
#include "py/versions.h"

namespace nnx_wrappers::graph {

namespace {

using Origin = py::CallObserver::Origin;

Origin converted(flax::Origin origin) {
  switch (origin) {
    case flax::Origin::kUser:
      return Origin::kUser;
    case flax::Origin::kStandard:
      return Origin::kStandard;
    case flax::Origin::kLibrary:
      return Origin::kLibrary;
    case flax::Origin::kBeside:
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

nb::object look_up(nb::handle dict, nb::handle name) {
  PyObject* value = PyDict_GetItemWithError(dict.ptr(), name.ptr());
  if (value == nullptr && PyErr_Occurred() != nullptr) throw nb::python_error();
  return nb::borrow(value);
}

std::string text_or_empty(nb::handle text) {
  return text.is_valid() && PyUnicode_Check(text.ptr()) ? py::utf8(text) : std::string();
}

std::string module_name_of(nb::handle dict) {
  return text_or_empty(look_up(dict, py::names().name_dunder));
}

// The imported module of this name, or an invalid object.
nb::object imported(const std::string& name) {
  return look_up(PyImport_GetModuleDict(), nb::str(name.c_str()));
}

bool is_dunder(nb::handle name) {
  return PyUnicode_Check(name.ptr()) == 0 || py::utf8(name).starts_with("__");
}

}  // namespace

GuardRecorder::GuardRecorder() : guards_(std::make_shared<GuardSet>()) {}

GuardRecorder::~GuardRecorder() = default;

void GuardRecorder::refuse(const std::string& reason) {
  if (reason_.empty()) reason_ = reason;
}

void GuardRecorder::add_root(nb::handle object, const std::string& path) {
  if (is_atom(object.ptr()) || seen_.contains(object.ptr())) return;
  guard<ObjectGuard>(path, object);
  visit(object, path);
  visit_waiting();
}

void GuardRecorder::start() {
  if (!py::CallRecorder::is_possible()) return refuse("this Python is not known to the recorder");
  random_state_ = flax::numpy_random_state();
  switches_ = py::thread_switches();
  recorder_.emplace(*this);
}

Dependences GuardRecorder::finish() {
  const std::string incomplete = recorder_ ? recorder_->check() : std::string();
  recorder_.reset();
  const unsigned long switches = py::thread_switches();
  if (!is_over()) refuse(incomplete);
  if (!is_over() && !py::equal(random_state_, flax::numpy_random_state())) {
    refuse("it draws from numpy.random");
  }
  if (is_over()) return {nullptr, reason_, false};
  if (switches != switches_ && !guards_->sees_every_change()) {
    return {nullptr, "other threads ran while it was planned", true};
  }
  std::string changed;
  if (!guards_->holds(changed)) return {nullptr, changed + " changes from call to call", true};
  return {std::move(guards_), "", false};
}

Origin GuardRecorder::origin_of(const py::RunningFunction& function) {
  return converted(flax::origin_of_globals(function.globals()));
}

void GuardRecorder::on_function(const py::RunningFunction& function, Origin origin) {
  if (is_over()) return;
  const nb::handle code = function.code();
  if (origin == Origin::kStandard) {
    if (module_name_of(function.globals()) == "os") guard_environment();
    return;
  }
  const auto space = namespaces_.find(function.globals().ptr());
  const bool is_known = space != namespaces_.end() && space->second->codes.contains(code.ptr());
  if (is_known) return;
  ran_.insert(code.ptr());
  add_names_of(code);
  guard_globals(function);
  guard_imports(code, function.globals());
  const auto waiting = functions_.extract(code.ptr());
  if (!waiting.empty()) {
    for (const Waiting& one : waiting.mapped()) look_at_parts(one.object, one.path);
  }
  visit_waiting();
  for (const char* reader : kNamesOfReaders) {
    const nb::object name = nb::steal(PyUnicode_InternFromString(reader));
    if (names_.contains(name.ptr())) complete_namespaces_of(function);
  }
  visit_waiting();
}

void GuardRecorder::on_c_function(nb::handle callable, nb::handle owner,
                                  const py::RunningFunction& by, Origin origin) {
  if (is_over()) return;
  const std::string reason = flax::reason_not_repeatable(callable, owner, origin == Origin::kUser);
  if (!reason.empty()) return refuse(reason);
  if (owner.is_valid() && PyContextVar_CheckExact(owner.ptr())) visit(owner, "a context variable");
  if (PyCFunction_Check(callable.ptr()) && owner.is_valid() && PyModule_Check(owner.ptr())) {
    const auto* function = reinterpret_cast<PyCFunctionObject*>(callable.ptr());
    const std::string_view name = function->m_ml->ml_name;
    const bool reads_globals = std::ranges::find(kReadAnyGlobal, name) != kReadAnyGlobal.end();
    const auto space = namespaces_.find(by.globals().ptr());
    if (reads_globals && space != namespaces_.end()) complete_namespace(*space->second);
    if (reads_globals || std::ranges::find(kReadByAnyName, name) != kReadByAnyName.end()) {
      complete_namespaces_of(by);
    }
  }
  visit_waiting();
}

// ---- names ---------------------------------------------------------------------------------

// Names of globals, attributes and modules, and texts that may be such: what `getattr` is given.
void GuardRecorder::add_names_of(nb::handle code) {
  const nb::object names = py::get(code, nb::str("co_names"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
    add_name(PyTuple_GET_ITEM(names.ptr(), i));
  }
  std::vector<nb::object> constants{py::get(code, nb::str("co_consts"))};
  while (!constants.empty()) {
    const nb::object constant = constants.back();
    constants.pop_back();
    if (PyTuple_CheckExact(constant.ptr())) {
      for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(constant.ptr()); ++i) {
        constants.push_back(nb::borrow(PyTuple_GET_ITEM(constant.ptr(), i)));
      }
    } else if (PyUnicode_CheckExact(constant.ptr()) && PyUnicode_IsIdentifier(constant.ptr())) {
      add_name(constant);
    }
  }
  // What a name leads to may add namespaces. NOLINTNEXTLINE(modernize-loop-convert)
  for (size_t i = 0; i < named_spaces_.size(); ++i) {
    for (const nb::object& name : new_names_) note(*named_spaces_[i], name);
  }
  new_names_.clear();
}

void GuardRecorder::add_name(nb::handle name) {
  PyObject* interned = name.inc_ref().ptr();
  PyUnicode_InternInPlace(&interned);
  nb::object owned = nb::steal(interned);
  if (names_.insert(interned).second) {
    new_names_.push_back(owned);
    kept_.push_back(std::move(owned));
  }
}

GuardRecorder::Namespace& GuardRecorder::namespace_of(nb::handle dict, nb::handle owner,
                                                      const std::string& path) {
  std::unique_ptr<Namespace>& space = namespaces_[dict.ptr()];
  if (space != nullptr) return *space;
  space = std::make_unique<Namespace>();
  space->dict = nb::borrow(dict);
  space->path = path;
  space->module = module_name_of(dict);
  space->looks_further = flax::origin_of_globals(dict) == flax::Origin::kUser;
  space->guard = &guard<NamesGuard>(space->module.empty() ? path : space->module, owner, dict);
  return *space;
}

void GuardRecorder::guard_globals(const py::RunningFunction& function) {
  const nb::handle globals = function.globals();
  const std::string module = module_name_of(globals);
  const nb::object owner = imported(module);
  const bool is_owned = owner.is_valid() && PyModule_Check(owner.ptr()) &&
                        PyModule_GetDict(owner.ptr()) == globals.ptr();
  Namespace& space = namespace_of(globals, is_owned ? nb::handle(owner) : globals, module);
  space.codes.insert(function.code().ptr());
  Namespace* builtins = nullptr;
  const nb::object names = py::get(function.code(), nb::str("co_names"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
    const nb::handle name = PyTuple_GET_ITEM(names.ptr(), i);
    if (look_up(globals, name).is_valid()) {
      note(space, name);
      continue;
    }
    // A name that is not there yet would shadow a builtin.
    if (space.names.insert(name.ptr()).second) {
      space.guard->add(name, nb::handle());
      ++comparisons_;
    }
    if (!look_up(function.builtins(), name).is_valid()) continue;
    if (builtins == nullptr) {
      builtins = &namespace_of(function.builtins(), function.builtins(), "builtins");
    }
    note(*builtins, name);
  }
}

// Modules that a function imports when it runs: by their whole names or, with the package of the
// function, by a part.
void GuardRecorder::guard_imports(nb::handle code, nb::handle globals) {
  std::string package = text_or_empty(look_up(globals, nb::str("__package__")));
  std::vector<std::string> packages;
  while (!package.empty()) {
    packages.push_back(package);
    const auto dot = package.rfind('.');
    package = dot == std::string::npos ? "" : package.substr(0, dot);
  }
  for (const char* part : {"co_names", "co_consts"}) {
    const nb::object names = py::get(code, nb::str(part));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
      PyObject* object = PyTuple_GET_ITEM(names.ptr(), i);
      if (PyUnicode_CheckExact(object) == 0 || PyUnicode_GetLength(object) > 200) continue;
      const std::string name = py::utf8(object);
      nb::object module = name.empty() ? nb::object() : imported(name);
      if (module.is_valid()) visit(module, name);
      for (const std::string& above : packages) {
        std::string whole = above;
        if (!name.empty()) whole.append(".").append(name);
        module = imported(whole);
        if (module.is_valid()) visit(module, above);
      }
    }
  }
}

void GuardRecorder::guard_environment() {
  const nb::object os = imported("os");
  if (!os.is_valid()) return;
  visit(look_up(PyModule_GetDict(os.ptr()), nb::str("environ")), "os.environ");
  visit_waiting();
}

// A name in a namespace, and what it leads to.
void GuardRecorder::note(Namespace& space, nb::handle name) {
  const nb::object value = look_up(space.dict, name);
  if (!value.is_valid() || !space.names.insert(name.ptr()).second) return;
  kept_.push_back(nb::borrow(name));
  if (space.guard != nullptr) {
    space.guard->add(name, value);
    if (++comparisons_ > kMostComparisons) return refuse("it depends on too much to compare");
  }
  if (flax::is_source_of_randomness(space.module, name)) {
    return refuse("it uses " + space.module + "." + py::text_of(name));
  }
  if (is_atom(value.ptr())) return;
  const bool looks_further =
      space.looks_further || PyModule_Check(value.ptr()) ||
      (space.module == "os" && py::text_of(name) == "environ") ||
      (PyFunction_Check(value.ptr()) &&
       flax::origin_of_globals(PyFunction_GetGlobals(value.ptr())) == flax::Origin::kUser) ||
      (!PyType_Check(value.ptr()) && flax::origin_of_class(value.type()) == flax::Origin::kUser);
  if (looks_further) visit(value, NamesGuard::path_of(space.path, name));
}

// ---- namespaces that are read by names that no code has -------------------------------------

void GuardRecorder::complete(nb::handle object) {
  if (PyModule_Check(object.ptr())) {
    visit(object, "");
    visit_waiting();
    const auto space = namespaces_.find(PyModule_GetDict(object.ptr()));
    if (space != namespaces_.end()) complete_namespace(*space->second);
    return;
  }
  const nb::handle type = PyType_Check(object.ptr()) ? object : nb::handle(object.type());
  if (flax::origin_of_class(type) != flax::Origin::kUser) return;
  visit(type, py::type_name(type));
  visit_waiting();
  const nb::handle bases = reinterpret_cast<PyTypeObject*>(type.ptr())->tp_mro;
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(bases.ptr()); ++i) {
    const auto* base = reinterpret_cast<PyTypeObject*>(PyTuple_GET_ITEM(bases.ptr(), i));
    const auto space = namespaces_.find(base->tp_dict);
    if (space != namespaces_.end()) complete_namespace(*space->second);
  }
}

void GuardRecorder::complete_namespace(Namespace& space) {
  if (std::exchange(space.is_complete, true)) return;
  if (space.guard != nullptr) space.guard->fix_size();
  const nb::object names = nb::steal(PyDict_Keys(space.dict.ptr()));
  if (!names.is_valid()) throw nb::python_error();
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(names.ptr()); ++i) {
    const nb::handle name = PyList_GET_ITEM(names.ptr(), i);
    if (!is_dunder(name)) note(space, name);
  }
}

// Those that the function can have in its hands: its variables, and what its globals name.
void GuardRecorder::complete_namespaces_of(const py::RunningFunction& function) {
  for (const nb::object& value : function.locals()) complete(value);
  const nb::object names = py::get(function.code(), nb::str("co_names"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
    const nb::object value = look_up(function.globals(), PyTuple_GET_ITEM(names.ptr(), i));
    if (!value.is_valid()) continue;
    if (PyModule_Check(value.ptr()) || PyType_Check(value.ptr())) complete(value);
  }
}

}  // namespace nnx_wrappers::graph
