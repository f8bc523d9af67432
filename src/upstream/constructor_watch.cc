#include "upstream/constructor_watch.h"

#include <utility>

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
PyObject* space = nullptr;        // owned: the namespace that has it

constexpr const char* kConstructor = "_graph_node_meta_call";

// The namespace of the name; an invalid object unless it leads to Flax's own function: a program
// may have put one of its own there.
nb::object namespace_of_constructor() {
  nb::object found = find("flax.nnx.pytreelib:__dict__");
  if (!found.is_valid() || PyDict_Check(found.ptr()) == 0) return {};
  PyObject* present = PyDict_GetItemString(found.ptr(), kConstructor);
  return present == facade().pytree_constructor.ptr() ? found : nb::object();
}

nb::object first_of(const nb::args& arguments) { return arguments[0]; }

nb::tuple all_but_first(const nb::args& arguments) {
  return nb::steal<nb::tuple>(
      PyTuple_GetSlice(arguments.ptr(), 1, PyTuple_GET_SIZE(arguments.ptr())));
}

void replace_constructor() {
  nb::object found = namespace_of_constructor();
  if (!found.is_valid()) return;
  nb::object made = nb::cpp_function([](const nb::args& arguments, const nb::kwargs& kwargs) {
    const ConstructorWatch* watch = watch_of_thread;
    if (watch == nullptr) return py::call(facade().pytree_constructor, arguments, kwargs);
    return watch->answer(first_of(arguments), all_but_first(arguments), kwargs);
  });
  if (PyDict_SetItemString(found.ptr(), kConstructor, made.ptr()) != 0) throw nb::python_error();
  replacement = made.release().ptr();
  space = found.release().ptr();
}

// Runs no user code, since a destructor calls it.
void put_constructor_back() {
  const nb::object dying = nb::steal(std::exchange(replacement, nullptr));
  const nb::object found = nb::steal(std::exchange(space, nullptr));
  if (!found.is_valid()) return;
  const nb::error_scope pending;
  // Another tool may have set its own meanwhile, which stays, and calls ours no more.
  if (PyDict_GetItemString(found.ptr(), kConstructor) != dying.ptr()) return;
  PyObject* original = facade().pytree_constructor.ptr();
  if (PyDict_SetItemString(found.ptr(), kConstructor, original) != 0) PyErr_Clear();
}

}  // namespace

ConstructorWatch::ConstructorWatch(Handler handler)
    : handler_(std::move(handler)), outer_(watch_of_thread) {
  if (watches == 0) replace_constructor();
  ++watches;
  watch_of_thread = this;
}

ConstructorWatch::~ConstructorWatch() {
  watch_of_thread = outer_;
  if (--watches == 0) put_constructor_back();
}

nb::object ConstructorWatch::answer(nb::handle type, const nb::tuple& args,
                                    const nb::dict& kwargs) const {
  const Handler handler = handler_;  // owned, since the call may end the watch
  return handler(type, args, kwargs);
}

nb::object ConstructorWatch::construct(nb::handle type, const nb::tuple& args,
                                       const nb::dict& kwargs) {
  return py::call(facade().pytree_constructor, py::prepended(type, args), kwargs);
}

bool ConstructorWatch::is_supported() {
  return facade().pytree_constructor.is_valid() && namespace_of_constructor().is_valid();
}

}  // namespace nnx_wrappers::upstream
