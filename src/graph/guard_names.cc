// GuardRecorder: the names that code has, and the objects that they lead to.
#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "graph/guard_kinds.h"
#include "graph/guard_recorder.h"
#include "py/containers.h"
#include "py/modules.h"
#include "py/names.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/c_functions.h"
#include "upstream/origin.h"

namespace nnx_wrappers::graph {

namespace {

// Another one whenever a class is registered with an abstract base class.
nb::object token_of_abstract_classes(nb::handle abc) { return abc.attr("get_cache_token")(); }

bool is_dunder(nb::handle name) {
  return PyUnicode_Check(name.ptr()) == 0 || py::utf8(name).starts_with("__");
}

// These call functions that they are given, such as `getattr`, without a Python function that could
// be watched.
constexpr std::array<const char*, 9> kIndirectCallers = {
    "partial", "map", "reduce", "starmap", "filter", "iter", "sorted", "accumulate", "defaultdict"};

// C functions that read attributes, and those that read globals, by names that no code has.
constexpr std::array<std::string_view, 4> kAttributeReaders = {"getattr", "hasattr", "vars", "dir"};
constexpr std::array<std::string_view, 4> kGlobalsReaders = {"globals", "eval", "exec", "locals"};

// By these a function may read the local variables of others.
constexpr std::array<const char*, 2> kFrameReaders = {"f_locals", "capture_locals"};

// C functions that may read the local variables of their caller.
constexpr std::array<std::string_view, 5> kLocalsReaders = {"locals", "vars", "dir", "eval",
                                                            "exec"};

// The names of globals, attributes and modules in code: a tuple of interned texts.
nb::object names_of(nb::handle code) { return py::get(code, nb::str("co_names")); }

}  // namespace

bool GuardRecorder::may_call_indirectly(nb::handle code) {
  const nb::object names = names_of(code);
  for (PyObject* name : py::borrowed_elements(names)) {
    const std::string text = py::utf8(name);
    for (const char* caller : kIndirectCallers) {
      if (text == caller) return true;
    }
  }
  return false;
}

// Notes every function that the code can name: its globals, and attributes of modules among them.
void GuardRecorder::note_indirect_calls(const py::RunningFunction& function) {
  const nb::object names = names_of(function.code());
  std::vector<PyObject*> dicts{function.globals().ptr()};
  for (PyObject* name : py::borrowed_elements(names)) {
    const nb::object value = py::dict_get(function.globals(), name);
    const bool is_module = value.is_valid() && PyModule_Check(value.ptr());
    if (is_module) dicts.push_back(PyModule_GetDict(value.ptr()));
  }
  for (PyObject* dict : dicts) {
    for (PyObject* name : py::borrowed_elements(names)) called_indirectly_.emplace(dict, name);
  }
}

// The names that code has, and its constants that may be names, for `getattr`.
std::vector<nb::object> GuardRecorder::names_in(nb::handle code) {
  std::vector<nb::object> found = py::elements(names_of(code));
  std::vector<nb::object> constants{py::get(code, nb::str("co_consts"))};
  while (!constants.empty()) {
    const nb::object constant = constants.back();
    constants.pop_back();
    if (PyTuple_CheckExact(constant.ptr())) {
      for (PyObject* element : py::borrowed_elements(constant)) {
        constants.push_back(nb::borrow(element));
      }
    } else if (PyUnicode_CheckExact(constant.ptr()) && PyUnicode_IsIdentifier(constant.ptr())) {
      found.push_back(constant);
    }
  }
  return found;
}

void GuardRecorder::collect_names_of(nb::handle code) {
  for (const nb::object& name : names_in(code)) add_name(name);
}

void GuardRecorder::add_names_of(nb::handle code) {
  collect_names_of(code);
  apply_new_names();
}

// Opens a namespace for the names of later code, and notes those that code has already.
void GuardRecorder::open(Namespace& space) {
  open_namespaces_.push_back(&space);
  space.indexed_size = PyDict_GET_SIZE(space.dict.ptr());
  std::vector<PyObject*> named;
  for (const auto& [key, value] : py::borrowed_items(space.dict)) {
    PyObject* name = key;
    // One of a subclass of str, such as a member of an enum, equals a name that code has, and is
    // not interned.
    if (PyUnicode_CheckExact(name) == 0) space.indexed_size = kNotIndexed;
    if (PyUnicode_CheckExact(name) != 0 && PyUnicode_CHECK_INTERNED(name) == 0) {
      name = nb::borrow(key).release().ptr();
      PyUnicode_InternInPlace(&name);
      kept_.push_back(nb::steal(name));
    }
    holders_.add(name, &space);
    if (names_.contains(name)) named.push_back(name);
  }
  if (space.indexed_size == kNotIndexed) named.assign(names_.begin(), names_.end());
  for (PyObject* name : named) note_name(space, name);
}

// Notes the new names in every open namespace.
void GuardRecorder::apply_new_names() {
  const std::vector<nb::object> names = std::exchange(new_names_, {});
  if (names.empty()) return;
  for (const nb::object& name : names)
    holders_.for_each(name.ptr(), [&](Namespace& space) { note_name(space, name); });
  // The index does not know names that were added since.
  for (Namespace* space : open_namespaces_) {
    if (PyDict_GET_SIZE(space->dict.ptr()) == space->indexed_size) continue;
    for (const nb::object& name : names) note_name(*space, name);
  }
}

// Adds the names in a text with dots, or in a tuple of such: what an operator.attrgetter has.
void GuardRecorder::add_names_in(nb::handle texts) {
  if (PyTuple_CheckExact(texts.ptr())) {
    for (PyObject* text : py::borrowed_elements(texts)) add_names_in(text);
  } else if (PyUnicode_CheckExact(texts.ptr())) {
    const nb::object parts = nb::borrow(texts).attr("split")(".");
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(parts.ptr()); ++i) {
      add_name(PyList_GET_ITEM(parts.ptr(), i));
    }
  }
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
  space->module = py::module_name(dict);
  space->follows_values = upstream::origin_of_globals(dict) == upstream::Origin::kUser;
  space->guard = &guard<NamesGuard>(space->module.empty() ? path : space->module, owner, dict);
  return *space;
}

void GuardRecorder::guard_globals(const py::RunningFunction& function) {
  const nb::handle globals = function.globals();
  const std::string module = py::module_name(globals);
  const nb::object owner = py::imported_module(module);
  const bool is_owned = owner.is_valid() && PyModule_Check(owner.ptr()) &&
                        PyModule_GetDict(owner.ptr()) == globals.ptr();
  Namespace& space = namespace_of(globals, is_owned ? nb::handle(owner) : globals, module);
  space.codes.insert(function.code().ptr());
  Namespace* builtins = nullptr;
  const nb::object names = names_of(function.code());
  for (PyObject* name : py::borrowed_elements(names)) {
    if (py::dict_get(globals, name).is_valid()) {
      note_name(space, name);
      continue;
    }
    // A global that is added later would shadow a builtin.
    note_absence(space, name);
    if (builtins == nullptr) {
      builtins = &namespace_of(function.builtins(), function.builtins(), "builtins");
    }
    if (py::dict_get(function.builtins(), name).is_valid()) {
      note_name(*builtins, name);
    } else {
      note_absence(*builtins, name);
    }
  }
}

// Guards the modules that a function imports when it runs, by full names or by names relative to a
// package of the function.
void GuardRecorder::guard_imports(nb::handle code, nb::handle globals) {
  std::string package = py::text_or_empty(py::dict_get(globals, nb::str("__package__")));
  std::vector<std::string> packages;
  while (!package.empty()) {
    packages.push_back(package);
    const auto dot = package.rfind('.');
    package = dot == std::string::npos ? "" : package.substr(0, dot);
  }
  for (const char* part : {"co_names", "co_consts"}) {
    const nb::object names = py::get(code, nb::str(part));
    for (PyObject* object : py::borrowed_elements(names)) {
      if (PyUnicode_CheckExact(object) == 0 || PyUnicode_GetLength(object) > 200) continue;
      const std::string name = py::utf8(object);
      nb::object module = name.empty() ? nb::object() : py::imported_module(name);
      // A name like `random` is as a rule an attribute and not the module of the standard library.
      const bool is_meant =
          module.is_valid() && upstream::origin_of_module(name) != upstream::Origin::kStandard;
      if (is_meant) note_import(object);
      if (is_meant) enqueue(module, name);
      for (const std::string& parent : packages) {
        std::string full_name = parent;
        if (!name.empty()) full_name.append(".").append(name);
        module = py::imported_module(full_name);
        if (module.is_valid()) enqueue(module, parent);
      }
    }
  }
}

// Guards which module sys.modules has under this name.
void GuardRecorder::note_import(nb::handle name) {
  const nb::handle modules = PyImport_GetModuleDict();
  Namespace& space = namespace_of(modules, modules, "sys.modules");
  if (!space.names.insert(name.ptr()).second) return;
  kept_.push_back(nb::borrow(name));
  space.guard->add(name, py::dict_get(modules, name));
}

void GuardRecorder::guard_abstract_classes() {
  const nb::object abc = py::imported_module("abc");
  if (abc.is_valid())
    guard<ReadGuard>("a registration with an abstract class", abc, token_of_abstract_classes);
}

void GuardRecorder::guard_environment() {
  const nb::object os = py::imported_module("os");
  if (!os.is_valid()) return;
  enqueue(py::dict_get(PyModule_GetDict(os.ptr()), nb::str("environ")), "os.environ");
  inspect_queue();
}

bool GuardRecorder::has_name(const char* text) const {
  const nb::object name = nb::steal(PyUnicode_InternFromString(text));
  return names_.contains(name.ptr());
}

bool GuardRecorder::has_any_name(std::span<const char* const> texts) const {
  return std::ranges::any_of(texts, [this](const char* text) { return has_name(text); });
}

bool GuardRecorder::has_read_locals() const { return reads_locals_ || has_any_name(kFrameReaders); }

// Guards that a namespace does not have a name.
void GuardRecorder::note_absence(Namespace& space, nb::handle name) {
  if (!space.names.insert(name.ptr()).second) return;
  kept_.push_back(nb::borrow(name));
  space.guard->add(name, nb::handle());
  ++comparisons_;
}

// Guards a name that a namespace has, and inspects its object.
void GuardRecorder::note_name(Namespace& space, nb::handle name) {
  const nb::object value = py::dict_get(space.dict, name);
  if (!value.is_valid() || !space.names.insert(name.ptr()).second) return;
  kept_.push_back(nb::borrow(name));
  if (space.guard != nullptr) {
    space.guard->add(name, value);
    if (++comparisons_ > kMaxComparisons) return refuse("it depends on too much to compare");
  }
  if (upstream::makes_random_generator(space.module, name)) {
    return refuse("it uses " + space.module + "." + py::shortened(name));
  }
  if (value.is(PyImport_GetModuleDict())) return refuse("it reads sys.modules");
  if (is_atom(value.ptr())) return;
  const bool is_builtin = space.module == "builtins";
  if (PyCFunction_Check(value.ptr()) && !is_builtin) suspect(space, name, value);
  if (!space.follows_values && PyType_Check(value.ptr()) && !is_builtin) {
    const unsigned version = py::assigned_type_version(value);
    const std::string path = NamesGuard::path_of(space.path, name);
    if (version != 0 && seen_.emplace(value.ptr(), value).second) {
      guard<ClassGuard>(path, value, version);
    }
    return;
  }
  // Of the objects in other modules only these can change: containers, modules, and the user's.
  const bool is_container = PyList_CheckExact(value.ptr()) || PyDict_CheckExact(value.ptr());
  const bool is_user_function = upstream::is_user_function(value);
  const bool is_user_object = !PyType_Check(value.ptr()) && upstream::is_user_class(value.type());
  const bool is_environment = space.module == "os" && py::shortened(name) == "environ";
  if (space.follows_values || (is_container && !is_builtin) || PyModule_Check(value.ptr()) ||
      is_environment || is_user_function || is_user_object) {
    enqueue(value, NamesGuard::path_of(space.path, name));
  }
}

// Notes a C function that may return something else each time, and that code may call indirectly.
void GuardRecorder::suspect(const Namespace& space, nb::handle name, nb::handle c_function) {
  const std::string reason =
      upstream::reason_not_repeatable(c_function, PyCFunction_GetSelf(c_function.ptr()), true);
  const bool is_named_as_module = NamesGuard::path_of("", name) == space.module;
  const bool may_be_called =
      called_indirectly_.contains({space.dict.ptr(), name.ptr()}) && !is_named_as_module;
  if (!reason.empty() && may_be_called) suspected_reason_ = reason;
}

// ---- namespaces that are read by names that no code has -------------------------------------

// Notes all names of a module, or of the class of an object and its bases.
void GuardRecorder::note_all_names_of(nb::handle object) {
  if (PyModule_Check(object.ptr())) {
    enqueue(object, "");
    inspect_queue();
    const auto space = namespaces_.find(PyModule_GetDict(object.ptr()));
    if (space != namespaces_.end()) note_all_names(*space->second);
    return;
  }
  const nb::handle type = PyType_Check(object.ptr()) ? object : nb::handle(object.type());
  if (!upstream::is_user_class(type)) return;
  enqueue(type, py::type_name(type));
  inspect_queue();
  const nb::handle bases = py::as_type(type)->tp_mro;
  for (PyObject* base : py::borrowed_elements(bases)) {
    const auto space = namespaces_.find(reinterpret_cast<PyTypeObject*>(base)->tp_dict);
    if (space != namespaces_.end()) note_all_names(*space->second);
  }
}

void GuardRecorder::note_all_names(Namespace& space) {
  if (std::exchange(space.has_all_names, true)) return;
  if (space.guard != nullptr) space.guard->fix_size();
  const nb::object names = nb::steal(PyDict_Keys(space.dict.ptr()));
  if (!names.is_valid()) throw nb::python_error();
  for (Py_ssize_t i = 0; i < PyList_GET_SIZE(names.ptr()); ++i) {
    const nb::handle name = PyList_GET_ITEM(names.ptr(), i);
    const bool is_hidden = is_dunder(name) && !name.equal(py::names().dataclass_fields);
    if (!is_hidden) note_name(space, name);
  }
}

// Notes all names of the objects whose attributes the function may read: its local variables, and
// the modules and classes among its globals.
void GuardRecorder::note_all_names_within_reach(const py::RunningFunction& function) {
  for (const nb::object& value : function.locals()) note_all_names_of(value);
  const nb::object names = names_of(function.code());
  for (PyObject* name : py::borrowed_elements(names)) {
    const nb::object value = py::dict_get(function.globals(), name);
    if (!value.is_valid()) continue;
    if (PyModule_Check(value.ptr()) || PyType_Check(value.ptr())) note_all_names_of(value);
  }
}

// Notes the names that a builtin function may read for its caller.
void GuardRecorder::note_names_read_by(std::string_view builtin,
                                       const py::RunningFunction& caller) {
  reads_locals_ =
      reads_locals_ || std::ranges::find(kLocalsReaders, builtin) != kLocalsReaders.end();
  const bool reads_globals = std::ranges::find(kGlobalsReaders, builtin) != kGlobalsReaders.end();
  const auto space = namespaces_.find(caller.globals().ptr());
  if (reads_globals && space != namespaces_.end()) note_all_names(*space->second);
  if (reads_globals || std::ranges::find(kAttributeReaders, builtin) != kAttributeReaders.end()) {
    note_all_names_within_reach(caller);
  }
}

}  // namespace nnx_wrappers::graph
