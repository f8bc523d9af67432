#include "bridge/to_linen/qwix_paths.h"

#include <string>

#include "bridge/to_linen/class_cache.h"
#include "graph/walk.h"
#include "py/containers.h"
#include "py/method.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/names.h"
#include "upstream/pytree_state.h"
#include "upstream/qwix.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

nb::object call_with_path_step(nb::handle replaced, nb::handle name, const nb::tuple& args,
                               const nb::dict& kwargs) {
  upstream::PathStep step(name);
  nb::object result = py::call(replaced, args, kwargs);
  step.leave();
  return result;
}

bool needs_mark(nb::handle name, nb::handle value) {
  const upstream::Facade& f = upstream::facade();
  return nb::isinstance<nb::str>(name) && py::utf8(name).starts_with("dot_general") &&
         !upstream::is_variable(value) && !py::is_instance(value, f.nnx_module) &&
         !py::is_instance(value, f.nnx_dict) && !py::is_instance(value, f.nnx_list);
}

// The objects that Qwix keeps of an operation hold arrays, but for Flax they are static attributes
// unless they are marked as data.
nb::object set_attribute(nb::handle replaced, nb::handle /*unused*/, const nb::tuple& args,
                         const nb::dict& kwargs) {
  if (args.size() != 3 || !needs_mark(args[1], args[2])) return py::call(replaced, args, kwargs);
  return py::call(replaced, nb::make_tuple(args[0], args[1], upstream::facade().data(args[2])),
                  kwargs);
}

// `name` is None for the root module, which has the path of the Linen module.
nb::object make_class(nb::handle type, nb::handle name) {
  const upstream::Names& n = upstream::names();
  nb::dict body;
  body["__slots__"] = nb::make_tuple();
  for (const char* attribute : {"__module__", "__qualname__", "__doc__"}) {
    body[attribute] = py::get(type, nb::str(attribute));
  }
  // A module whose class was replaced already, by another ToLinen that is running, gets both keys
  // in the path, as MaxText expects, but needs one override of `__setattr__` only.
  if (!py::is_override(py::get(type, n.setattr_dunder))) {
    body[n.setattr_dunder] = py::make_override(type, n.setattr_dunder, set_attribute, name);
  }
  if (!name.is_none() && py::class_attribute(type, n.call_dunder).is_valid()) {
    body[n.call_dunder] = py::make_override(type, n.call_dunder, call_with_path_step, name);
  }
  // Flax asks for the class keywords in each subclass.
  const nb::dict keywords = upstream::subclass_keywords(type);
  return py::call(type.type(),
                  nb::make_tuple(py::get(type, nb::str("__name__")), nb::make_tuple(type), body),
                  keywords);
}

nb::object class_for(nb::handle type, nb::handle name) {
  ClassCache& classes = ClassCache::get();
  nb::object known = classes.find(type, name);
  if (known.is_valid()) return known;
  nb::object made = make_class(type, name);
  classes.add(type, name, made);
  return made;
}

}  // namespace

QwixPaths::QwixPaths(nb::handle root) {
  graph::WalkEvents events;
  events.on_node = [&](const graph::Path& path, nb::handle node, upstream::NodeKind) {
    if (!py::is_instance(node, upstream::facade().nnx_module)) return true;
    const nb::object before = nb::borrow(node.type());
    const nb::object name = path.empty() ? nb::none() : nb::object(nb::str(path.back()));
    const nb::object during = class_for(before, name);
    upstream::forget_op_counts(node);
    py::set_generic(node, upstream::names().class_dunder, during);
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
    if (PyObject_GenericSetAttr(entry.module.ptr(), upstream::names().class_dunder.ptr(),
                                entry.before.ptr()) != 0) {
      PyErr_Clear();
    }
  }
}

}  // namespace nnx_wrappers::bridge
