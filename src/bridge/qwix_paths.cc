#include "bridge/qwix_paths.h"

#include <string>

#include "bridge/caches.h"
#include "flax/facade.h"
#include "flax/qwix.h"
#include "flax/variable.h"
#include "graph/walk.h"
#include "py/containers.h"
#include "py/method.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

nb::object call_in_path(nb::handle replaced, nb::handle name, const nb::tuple& args,
                        const nb::dict& kwargs) {
  flax::PathStep step(name);
  nb::object result = py::call(replaced, args, kwargs);
  step.leave();
  return result;
}

bool needs_mark(nb::handle name, nb::handle value) {
  const flax::Facade& f = flax::facade();
  return nb::isinstance<nb::str>(name) && py::utf8(name).starts_with("dot_general") &&
         !flax::is_variable(value) && !py::is_instance(value, f.nnx_module) &&
         !py::is_instance(value, f.nnx_dict) && !py::is_instance(value, f.nnx_list);
}

// What Qwix keeps of an operation holds arrays, in objects that Flax takes for static.
nb::object set_attribute(nb::handle replaced, nb::handle /*unused*/, const nb::tuple& args,
                         const nb::dict& kwargs) {
  if (args.size() != 3 || !needs_mark(args[1], args[2])) return py::call(replaced, args, kwargs);
  return py::call(replaced, nb::make_tuple(args[0], args[1], flax::facade().data(args[2])), kwargs);
}

// `name` is None for the root, whose path is Linen's own.
nb::object make_class(nb::handle type, nb::handle name) {
  const py::Names& n = py::names();
  nb::dict body;
  body["__slots__"] = nb::make_tuple();
  for (const char* attribute : {"__module__", "__qualname__", "__doc__"}) {
    body[attribute] = py::get(type, nb::str(attribute));
  }
  // A module that comes from another ToLinen that runs has both its keys in the path, as
  // maxtext has it, but is marked once.
  if (!py::is_made_method(py::get(type, n.setattr_dunder))) {
    body[n.setattr_dunder] = py::make_method(type, n.setattr_dunder, set_attribute, name);
  }
  if (!name.is_none() && py::class_attribute(type, n.call_dunder).is_valid()) {
    body[n.call_dunder] = py::make_method(type, n.call_dunder, call_in_path, name);
  }
  // Flax takes what the class was defined with for each subclass anew.
  nb::dict keywords;
  const nb::object is_pytree = py::get(type, n.is_pytree);
  if (!is_pytree.equal(py::get(flax::facade().nnx_module, n.is_pytree))) {
    keywords["pytree"] = is_pytree;
  }
  return py::call(type.type(),
                  nb::make_tuple(py::get(type, nb::str("__name__")), nb::make_tuple(type), body),
                  keywords);
}

nb::object class_for(nb::handle type, nb::handle name) {
  ClassCache& classes = Caches::get().qwix_classes();
  nb::object known = classes.find(type, name);
  if (known.is_valid()) return known;
  nb::object made = make_class(type, name);
  classes.add(type, name, made);
  return made;
}

}  // namespace

QwixPaths::QwixPaths(nb::handle root) {
  graph::WalkEvents events;
  events.on_node = [&](const graph::Path& path, nb::handle node, flax::NodeKind) {
    if (!py::is_instance(node, flax::facade().nnx_module)) return true;
    const nb::object before = nb::borrow(node.type());
    const nb::object name = path.empty() ? nb::none() : nb::object(nb::str(path.back()));
    const nb::object during = class_for(before, name);
    flax::forget_op_counts(node);
    py::set_generic(node, py::names().class_dunder, during);
    changed_.push_back({nb::borrow(node), before, during});
    return true;
  };
  try {
    graph::walk(root, events);
  } catch (...) {
    restore();
    throw;
  }
}

QwixPaths::~QwixPaths() { restore(); }

void QwixPaths::restore() {
  for (const Changed& entry : changed_) {
    if (!entry.module.type().is(entry.during)) continue;
    if (PyObject_GenericSetAttr(entry.module.ptr(), py::names().class_dunder.ptr(),
                                entry.before.ptr()) != 0) {
      PyErr_Clear();
    }
  }
}

}  // namespace nnx_wrappers::bridge
