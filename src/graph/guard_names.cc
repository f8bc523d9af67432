// GuardRecorder: the names that code has, and what they lead to.
#include <array>
#include <string>
#include <utility>

#include "graph/guard_kinds.h"
#include "graph/guard_recorder.h"
#include "py/modules.h"
#include "py/names.h"
#include "py/object.h"
#include "py/versions.h"
#include "upstream/c_functions.h"
#include "upstream/origin.h"

namespace nnx_wrappers::graph {

namespace {

// Changes whenever a class is registered with an abstract one.
nb::object token_of_abstract_classes(nb::handle abc) { return abc.attr("get_cache_token")(); }

bool is_dunder(nb::handle name) {
  return PyUnicode_Check(name.ptr()) == 0 || py::utf8(name).starts_with("__");
}

// What calls other functions of C, such as `getattr`, where nobody sees it.
constexpr std::array<const char*, 9> kCallers = {
    "partial", "map", "reduce", "starmap", "filter", "iter", "sorted", "accumulate", "defaultdict"};

}  // namespace

bool GuardRecorder::calls_unseen(nb::handle code) {
  const nb::object names = py::get(code, nb::str("co_names"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
    const std::string name = py::utf8(PyTuple_GET_ITEM(names.ptr(), i));
    for (const char* caller : kCallers) {
      if (name == caller) return true;
    }
  }
  return false;
}

// What the function names of its globals, and of the modules that it names.
void GuardRecorder::note_unseen(const py::RunningFunction& function) {
  const nb::object names = py::get(function.code(), nb::str("co_names"));
  std::vector<PyObject*> dicts{function.globals().ptr()};
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
    const nb::object value = py::look_up(function.globals(), PyTuple_GET_ITEM(names.ptr(), i));
    const bool is_module = value.is_valid() && PyModule_Check(value.ptr());
    if (is_module) dicts.push_back(PyModule_GetDict(value.ptr()));
  }
  for (PyObject* dict : dicts) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
      called_unseen_.emplace(dict, PyTuple_GET_ITEM(names.ptr(), i));  // interned
    }
  }
}

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
  flush_names();
}

// Looks for the names that are new in every namespace.
void GuardRecorder::flush_names() {
  const std::vector<nb::object> names = std::exchange(new_names_, {});
  // What a name leads to may add namespaces. NOLINTNEXTLINE(modernize-loop-convert)
  for (size_t i = 0; i < named_spaces_.size(); ++i) {
    for (const nb::object& name : names) note(*named_spaces_[i], name);
  }
}

// Texts, in tuples, with dots or without: what an operator.attrgetter or a class has.
void GuardRecorder::add_names_in(nb::handle texts) {
  if (PyTuple_CheckExact(texts.ptr())) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(texts.ptr()); ++i) {
      add_names_in(PyTuple_GET_ITEM(texts.ptr(), i));
    }
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
  space->looks_further = upstream::origin_of_globals(dict) == upstream::Origin::kUser;
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
  const nb::object names = py::get(function.code(), nb::str("co_names"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
    const nb::handle name = PyTuple_GET_ITEM(names.ptr(), i);
    if (py::look_up(globals, name).is_valid()) {
      note(space, name);
      continue;
    }
    // A name that is not there yet would shadow a builtin.
    note_absence(space, name);
    if (builtins == nullptr) {
      builtins = &namespace_of(function.builtins(), function.builtins(), "builtins");
    }
    if (py::look_up(function.builtins(), name).is_valid()) {
      note(*builtins, name);
    } else {
      note_absence(*builtins, name);
    }
  }
}

// Modules that a function imports when it runs: by their whole names or, with the package of the
// function, by a part.
void GuardRecorder::guard_imports(nb::handle code, nb::handle globals) {
  std::string package = py::text_or_empty(py::look_up(globals, nb::str("__package__")));
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
      nb::object module = name.empty() ? nb::object() : py::imported_module(name);
      // Attributes are named as modules of the standard library are, such as `random`.
      const bool is_meant =
          module.is_valid() && upstream::origin_of_module(name) != upstream::Origin::kStandard;
      if (is_meant) note_import(object);
      if (is_meant) visit(module, name);
      for (const std::string& above : packages) {
        std::string whole = above;
        if (!name.empty()) whole.append(".").append(name);
        module = py::imported_module(whole);
        if (module.is_valid()) visit(module, above);
      }
    }
  }
}

// That the name still stands for this module.
void GuardRecorder::note_import(nb::handle name) {
  const nb::handle modules = PyImport_GetModuleDict();
  Namespace& space = namespace_of(modules, modules, "sys.modules");
  if (!space.names.insert(name.ptr()).second) return;
  kept_.push_back(nb::borrow(name));
  space.guard->add(name, py::look_up(modules, name));
}

void GuardRecorder::guard_abstract_classes() {
  const nb::object abc = py::imported_module("abc");
  if (abc.is_valid())
    guard<BytesGuard>("a registration with an abstract class", abc, token_of_abstract_classes);
}

void GuardRecorder::guard_environment() {
  const nb::object os = py::imported_module("os");
  if (!os.is_valid()) return;
  visit(py::look_up(PyModule_GetDict(os.ptr()), nb::str("environ")), "os.environ");
  visit_waiting();
}

bool GuardRecorder::has_name(const char* text) const {
  const nb::object name = nb::steal(PyUnicode_InternFromString(text));
  return names_.contains(name.ptr());
}

void GuardRecorder::note_absence(Namespace& space, nb::handle name) {
  if (!space.names.insert(name.ptr()).second) return;
  kept_.push_back(nb::borrow(name));
  space.guard->add(name, nb::handle());
  ++comparisons_;
}

// A name in a namespace, and what it leads to.
void GuardRecorder::note(Namespace& space, nb::handle name) {
  const nb::object value = py::look_up(space.dict, name);
  if (!value.is_valid() || !space.names.insert(name.ptr()).second) return;
  kept_.push_back(nb::borrow(name));
  if (space.guard != nullptr) {
    space.guard->add(name, value);
    if (++comparisons_ > kMostComparisons) return refuse("it depends on too much to compare");
  }
  if (upstream::is_source_of_randomness(space.module, name)) {
    return refuse("it uses " + space.module + "." + py::text_of(name));
  }
  if (value.is(PyImport_GetModuleDict())) return refuse("it reads sys.modules");
  if (is_atom(value.ptr())) return;
  const bool is_builtin = space.module == "builtins";
  if (PyCFunction_Check(value.ptr()) && !is_builtin) {
    const std::string reason =
        upstream::reason_not_repeatable(value, PyCFunction_GetSelf(value.ptr()), true);
    const bool is_named_as_module = NamesGuard::path_of("", name) == space.module;
    const bool is_meant =
        called_unseen_.contains({space.dict.ptr(), name.ptr()}) && !is_named_as_module;
    if (!reason.empty() && is_meant) suspicion_ = reason;
  }
  if (!space.looks_further && PyType_Check(value.ptr()) && !is_builtin) {
    const unsigned version = py::assigned_type_version(value);
    const std::string path = NamesGuard::path_of(space.path, name);
    if (version != 0 && seen_.emplace(value.ptr(), value).second) {
      guard<ClassGuard>(path, value, version);
    }
    return;
  }
  const bool is_list = PyList_CheckExact(value.ptr()) || PyDict_CheckExact(value.ptr());
  const bool looks_further = space.looks_further || (is_list && !is_builtin) ||
                             PyModule_Check(value.ptr()) ||
                             (space.module == "os" && py::text_of(name) == "environ") ||
                             (PyFunction_Check(value.ptr()) &&
                              upstream::origin_of_globals(PyFunction_GetGlobals(value.ptr())) ==
                                  upstream::Origin::kUser) ||
                             (!PyType_Check(value.ptr()) &&
                              upstream::origin_of_class(value.type()) == upstream::Origin::kUser);
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
  if (upstream::origin_of_class(type) != upstream::Origin::kUser) return;
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
    const bool is_hidden = is_dunder(name) && !name.equal(py::names().dataclass_fields);
    if (!is_hidden) note(space, name);
  }
}

// Those that the function can have in its hands: its variables, and what its globals name.
void GuardRecorder::complete_namespaces_of(const py::RunningFunction& function) {
  for (const nb::object& value : function.locals()) complete(value);
  const nb::object names = py::get(function.code(), nb::str("co_names"));
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names.ptr()); ++i) {
    const nb::object value = py::look_up(function.globals(), PyTuple_GET_ITEM(names.ptr(), i));
    if (!value.is_valid()) continue;
    if (PyModule_Check(value.ptr()) || PyType_Check(value.ptr())) complete(value);
  }
}

}  // namespace nnx_wrappers::graph
