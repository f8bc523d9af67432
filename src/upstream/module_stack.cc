#include "upstream/module_stack.h"

#include "py/containers.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/private_names.h"

namespace nnx_wrappers::upstream {

// A scope made by a lifted transformation goes on with the counters of the outer scope, the same
// dict. They are below those of the root, level by level as the path of the scope says; those of a
// scope of another call are not.
bool counts_below(nb::handle scope, nb::handle root) {
  const PrivateNames& n = private_names();
  const nb::object token = nb::borrow(facade().child_rng_token);
  nb::object counters = py::get(root, n.rng_counters);
  for (const nb::object& name : py::elements(py::get(scope, n.path))) {
    if (PyDict_Check(counters.ptr()) == 0) return false;
    counters = py::dict_get(counters, nb::make_tuple(token, name));
    if (!counters.is_valid()) return false;
  }
  return counters.is(py::get(scope, n.rng_counters));
}

ModuleStack::ModuleStack(const nb::list& stack)
    : before_(py::get(facade().linen_context, names().module_stack)) {
  for (const nb::object& module : py::elements(before_)) {
    if (PyList_Append(stack.ptr(), module.ptr()) != 0) throw nb::python_error();
  }
  py::set(facade().linen_context, names().module_stack, stack);
}

ModuleStack::~ModuleStack() {
  const nb::error_scope pending;
  const int status =
      PyObject_SetAttr(facade().linen_context.ptr(), names().module_stack.ptr(), before_.ptr());
  if (status != 0) PyErr_Clear();
}

void adopt_scope_of(nb::handle module, nb::handle root) {
  if (root.is_none()) return;
  const nb::object scope = py::get_optional(module, names().scope);
  if (!scope.is_valid() || !scope.type().is(facade().scope)) return;
  if (counts_below(scope, root)) nb::setattr(scope, "__class__", root.type());
}

}  // namespace nnx_wrappers::upstream
