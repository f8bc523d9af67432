#include "upstream/constructor_watch.h"

#include <utility>

#include "py/containers.h"
#include "py/object.h"
#include "upstream/facade.h"
#include "upstream/look_up.h"

namespace nnx_wrappers::upstream {

namespace {

thread_local const ConstructorWatch* watch_of_thread = nullptr;

// Shared by all threads, and changed under the GIL. Flax looks the function that runs a constructor
// up by its name at each call. While any thread watches, the name leads to `replacement`.
size_t watches = 0;
PyObject* replacement = nullptr;  // owned

nb::object namespace_of_pytrees() { return find("flax.nnx.pytreelib:__dict__"); }

nb::str name_of_constructor() { return nb::str("_graph_node_meta_call"); }

nb::object first_of(const nb::args& arguments) { return arguments[0]; }

nb::tuple all_but_first(const nb::args& arguments) {
  return nb::steal<nb::tuple>(
      PyTuple_GetSlice(arguments.ptr(), 1, PyTuple_GET_SIZE(arguments.ptr())));
}

}  // namespace

ConstructorWatch::ConstructorWatch(Handler handler)
    : handler_(std::move(handler)), outer_(watch_of_thread) {
  const nb::object space = namespace_of_pytrees();
  if (watches == 0) {
    nb::object made = nb::cpp_function([](const nb::args& arguments, const nb::kwargs& kwargs) {
      const ConstructorWatch* watch = watch_of_thread;
      if (watch == nullptr) return py::call(facade().pytree_constructor, arguments, kwargs);
      const Handler& handle = watch->handler_;
      return handle(first_of(arguments), all_but_first(arguments), kwargs);
    });
    space[name_of_constructor()] = made;
    replacement = made.release().ptr();
  }
  ++watches;
  watch_of_thread = this;
}

ConstructorWatch::~ConstructorWatch() {
  watch_of_thread = outer_;
  if (--watches != 0) return;
  const nb::object dying = nb::steal(std::exchange(replacement, nullptr));
  const nb::error_scope pending;
  // Another tool may have set its own meanwhile, which stays, and calls ours no more.
  const nb::object space = namespace_of_pytrees();
  if (!py::dict_get(space, name_of_constructor()).is(dying)) return;
  const int status =
      PyDict_SetItem(space.ptr(), name_of_constructor().ptr(), facade().pytree_constructor.ptr());
  if (status != 0) PyErr_Clear();
}

nb::object ConstructorWatch::construct(nb::handle type, const nb::tuple& args,
                                       const nb::dict& kwargs) {
  return py::call(facade().pytree_constructor, py::prepended(type, args), kwargs);
}

bool ConstructorWatch::is_supported() {
  if (!facade().pytree_constructor.is_valid()) return false;
  // A program may have put a function of its own there.
  return py::dict_get(namespace_of_pytrees(), name_of_constructor())
      .is(facade().pytree_constructor);
}

}  // namespace nnx_wrappers::upstream
