#include "upstream/linen.h"

#include <algorithm>

#include "py/containers.h"
#include "py/modules.h"
#include "py/object.h"
#include "py/once.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/origin.h"
#include "upstream/private_names.h"
#include "upstream/scope.h"

namespace nnx_wrappers::upstream {

nb::object innermost_linen_module() {
  const nb::object stack = py::get(facade().linen_context, private_names().module_stack);
  return nb::len(stack) == 0 ? nb::none() : nb::object(stack[-1]);
}

nb::object innermost_bridge_module() {
  if (!facade().bridge_context.is_valid()) return nb::none();
  const nb::object stack = py::get(facade().bridge_context, private_names().module_stack);
  if (nb::len(stack) == 0) return nb::none();
  const nb::object entry = stack[-1];
  return entry.is_none() ? nb::none() : py::get(entry, nb::str("module"));
}

bool is_copy_protocol_name(nb::handle name) {
  const nb::handle known = facade().copy_methods;
  return known.is_valid() ? py::contains(known, name) : py::utf8(name).starts_with("__");
}

bool is_initializing(nb::handle linen_module) {
  const nb::object scope = py::get(linen_module, private_names().scope);
  return !scope.is_none() && is_initializing_scope(scope);
}

nb::object enclosing_mutable() {
  for (const nb::object& module : {innermost_bridge_module(), innermost_linen_module()}) {
    if (module.is_none()) continue;
    const nb::object scope = py::get(module, private_names().scope);
    if (!scope.is_none()) return py::get(scope, private_names().mutable_);
  }
  return {};
}

bool has_submodule(nb::handle linen_module, nb::handle name) {
  const PrivateNames& n = private_names();
  const nb::object children = py::get(py::get(linen_module, n.state), n.children);
  return py::contains(children, name);
}

ContextRead context_read(nb::handle code, nb::handle globals) {
  const auto is_code_of = [&](nb::handle function) {
    return function.is_valid() && PyFunction_Check(function.ptr()) != 0 &&
           PyFunction_GetCode(function.ptr()) == code.ptr();
  };
  if (is_code_of(facade().linen_post_init)) return ContextRead::kParent;
  const bool is_of_bridge_modules = py::module_name(globals) == "flax.nnx.bridge.module";
  const bool asks = is_of_bridge_modules || is_code_of(facade().asks_for_linen_module);
  return asks ? ContextRead::kModule : ContextRead::kNone;
}

namespace {

thread_local nb::handle current_stand_in;  // the stack of Linen's context owns it

}  // namespace

NoLinenModule::NoLinenModule(nb::handle stand_in)
    : stack_(nb::cast<nb::list>(py::get(facade().linen_context, private_names().module_stack))),
      stand_in_before_(current_stand_in) {
  stack_.append(stand_in);
  current_stand_in = stand_in;
}

NoLinenModule::~NoLinenModule() {
  current_stand_in = stand_in_before_;
  const Py_ssize_t size = PyList_Size(stack_.ptr());
  if (PyList_SetSlice(stack_.ptr(), size - 1, size, nullptr) != 0) PyErr_Clear();
}

bool NoLinenModule::is_innermost() {
  return current_stand_in.is_valid() && innermost_linen_module().is(current_stand_in);
}

nb::object stand_in_module() {
  if (innermost_linen_module().is_none()) return nb::none();
  // Names that are taken already are none of the stand-in's.
  if (!is_innermost_without_names()) return nb::bool_(true);
  const Facade& f = facade();
  nb::object module = f.linen_sequential(nb::tuple(), nb::arg("parent") = f.scope(nb::dict()));
  py::set(py::get(module, private_names().state), private_names().in_compact_method,
          nb::bool_(true));
  return module;
}

bool has_run_modules(nb::handle stand_in) {
  if (!is_linen_module(stand_in)) return false;
  const PrivateNames& n = private_names();
  const nb::object children = py::get(py::get(stand_in, n.state), n.children);
  return std::ranges::any_of(py::mapping_items(children), [&](const py::Item& child) {
    if (!is_linen_module(child.second)) return false;
    const nb::object setup = py::get(py::get(child.second, n.state), n.setup_called);
    return py::truthy(py::get(setup, n.value)) || has_run_modules(child.second);
  });
}

bool is_innermost_without_names() {
  const nb::object module = innermost_linen_module();
  if (!is_linen_module(module)) return true;
  const PrivateNames& n = private_names();
  return nb::len(py::get(py::get(module, n.state), n.autoname_cursor)) == 0;
}

nb::object LinenMove::moved(nb::handle linen_module) {
  const PrivateNames& n = private_names();
  if (py::get(linen_module, n.scope).is_none()) return nb::borrow(linen_module);
  const auto known = moved_.find(linen_module.ptr());
  if (known != moved_.end()) return known->second;
  nb::dict fields;
  for (const auto& [name, value] : fields_of(linen_module)) {
    const nb::object copy = moved_in(value);
    if (!copy.is(value)) fields[name] = copy;
  }
  fields[n.parent] = innermost_linen_module();
  nb::object made = py::call(py::get(linen_module, n.clone), nb::tuple(), fields);
  moved_[linen_module.ptr()] = made;
  return made;
}

nb::object LinenMove::moved_in(nb::handle value) {
  if (is_linen_module(value)) return moved(value);
  if (is_inert(value)) return nb::borrow(value);
  const bool is_tuple = PyTuple_CheckExact(value.ptr()) != 0;
  if (is_tuple || PyList_CheckExact(value.ptr()) != 0) {
    nb::list elements;
    for (const nb::object& element : py::elements(value)) elements.append(moved_in(element));
    return is_tuple ? nb::object(nb::tuple(elements)) : nb::object(elements);
  }
  const nb::object dict = level_dict(value);
  if (!dict.is_valid()) return nb::borrow(value);
  nb::dict items;
  for (const auto& [key, item] : py::dict_items(dict)) items[key] = moved_in(item);
  return items;
}

namespace {

// The names of what Linen itself keeps in a module.
nb::handle names_in_every_module() {
  static constinit py::Once<const nb::handle> once;  // immortal
  return once.get([] {
    const nb::object module = facade().linen_sequential(nb::tuple());
    return nb::object(nb::frozenset(py::instance_dict(module))).release();
  });
}

}  // namespace

bool is_told_by_its_fields(nb::handle linen_module) {
  const PrivateNames& n = private_names();
  const nb::handle type = linen_module.type();
  for (const char* name : {"__post_init__", "__setattr__", "clone"}) {
    const nb::object method = py::get(type, nb::str(name));
    if (PyFunction_Check(method.ptr()) == 0) return false;
    const nb::handle globals = PyFunction_GetGlobals(method.ptr());
    if (origin_of_globals(globals) != Origin::kLibrary) return false;
  }
  // Made by dataclasses, or by what Flax has of it.
  const nb::object init = py::get(type, n.init_dunder);
  if (PyFunction_Check(init.ptr()) == 0) return false;
  const nb::object code = nb::borrow(PyFunction_GetCode(init.ptr()));
  const std::string name = py::utf8(py::get(code, nb::str("co_qualname")));
  if (!name.starts_with("__create_fn__.") && !name.starts_with("_process_class.")) return false;
  const nb::object fields = py::get(linen_module, n.dataclass_fields);
  return std::ranges::all_of(
      py::dict_items(py::instance_dict(linen_module)), [&](const py::Item& item) {
        if (item.first.equal(n.scope) || py::contains(names_in_every_module(), item.first))
          return true;
        // A copy is given the fields that __init__ takes.
        return py::contains(fields, item.first) &&
               py::truthy(py::get(nb::object(fields[item.first]), n.init));
      });
}

bool is_inert(nb::handle value) {
  const py::RecursionGuard guard(" while reading a field of a Linen module");
  PyObject* ptr = value.ptr();
  if (ptr == Py_None || PyBool_Check(ptr) || PyUnicode_CheckExact(ptr) || PyLong_CheckExact(ptr) ||
      PyFloat_CheckExact(ptr) || py::is_class(value) || py::is_function(value) ||
      value.type().is(facade().partial) || value.type().is(facade().jit_function)) {
    return true;
  }
  if (PyTuple_CheckExact(ptr)) {
    return std::ranges::all_of(py::elements(value), is_inert);
  }
  const nb::object dict = level_dict(value);
  if (!dict.is_valid() || dict.is(value)) return false;
  return std::ranges::all_of(py::dict_items(dict),
                             [](const py::Item& item) { return is_inert(item.second); });
}

bool is_linen_module(nb::handle object) {
  return py::is_subtype(object.type(), facade().linen_module);
}

std::vector<py::Item> fields_of(nb::handle linen_module) {
  const PrivateNames& n = private_names();
  std::vector<py::Item> fields;
  for (const auto& [name, field] : py::mapping_items(py::get(linen_module, n.dataclass_fields))) {
    if (name.equal(n.parent) || name.equal(n.name)) continue;
    nb::object value = py::get_optional(linen_module, name);
    if (value.is_valid()) fields.emplace_back(name, std::move(value));
  }
  return fields;
}

bool has_interceptors() { return nb::len(facade().linen_interceptors) != 0; }

void run_module_checks(nb::handle linen_module) {
  const nb::object check = py::get_optional(linen_module, private_names().module_checks);
  if (check.is_valid()) check();  // a check that Flax may drop, or call by another name
}

bool is_axis_metadata(nb::handle object) {
  // AxisMetadata is an abstract base class: a type may be registered for it.
  return py::is_subtype(object.type(), facade().axis_metadata) ||
         (!is_array(object) && py::is_instance(object, facade().axis_metadata));
}

nb::object level_dict(nb::handle level) {
  if (PyDict_CheckExact(level.ptr())) return nb::borrow(level);
  if (level.type().is(facade().frozen_dict)) {
    nb::object contents = py::get_optional(level, private_names().frozen_contents);
    return contents.is_valid() ? contents : nb::object(facade().unfreeze(level));
  }
  return {};
}

bool is_level(nb::handle object) {
  return PyDict_Check(object.ptr()) != 0 || py::is_subtype(object.type(), facade().frozen_dict);
}

nb::object unfreeze(nb::handle tree) { return facade().unfreeze(tree); }

nb::object unboxed(nb::handle leaf) {
  if (is_axis_metadata(leaf)) return py::get(leaf, private_names().unbox)();
  // Weights that Qwix has quantized are pytrees with the boxes inside.
  return is_array(leaf) ? nb::borrow(leaf) : facade().unbox(leaf);
}

}  // namespace nnx_wrappers::upstream
