#include "upstream/look_up.h"

#include <algorithm>

#include "py/containers.h"
#include "py/object.h"

namespace nnx_wrappers::upstream {

nb::object find(const std::string& place) {
  const auto colon = place.find(':');
  try {
    nb::object object = nb::module_::import_(place.substr(0, colon).c_str());
    size_t begin = colon + 1;
    while (begin <= place.size()) {
      const size_t end = std::min(place.find('.', begin), place.size());
      object = py::get(object, nb::str(place.substr(begin, end - begin).c_str()));
      begin = end + 1;
    }
    return object;
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_ImportError) && !error.matches(PyExc_AttributeError)) throw;
    return {};
  }
}

nb::handle look_for(std::initializer_list<const char*> places) {
  for (const char* place : places) {
    nb::object found = find(place);
    if (found.is_valid()) return found.release();
  }
  return {};
}

nb::handle class_of_nothing() {
  const nb::object metaclass = nb::borrow(reinterpret_cast<PyObject*>(&PyType_Type));
  return metaclass("Absent", nb::tuple(), nb::dict()).release();
}

nb::handle look_for_class(std::initializer_list<const char*> places) {
  const nb::handle found = look_for(places);
  return found.is_valid() ? found : class_of_nothing();
}

void raise_missing(const char* place) {
  const std::string text = "nnx_wrappers needs " + std::string(place) + ", which Flax " +
                           version_of("flax") + " with JAX " + version_of("jax") +
                           " does not have; install a supported pair (Flax 0.10.2 to 0.12.12 with "
                           "the JAX of its time).";
  PyErr_SetString(PyExc_ImportError, text.c_str());
  throw nb::python_error();
}

nb::handle look_up(std::initializer_list<const char*> places) {
  const nb::handle found = look_for(places);
  if (!found.is_valid()) raise_missing(*places.begin());
  return found;
}

nb::handle look_up(const char* place) { return look_up({place}); }

void require_flax() {
  try {
    nb::module_::import_("flax.nnx");
    nb::module_::import_("flax.linen");
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_ImportError) && !error.matches(PyExc_AttributeError)) throw;
    const std::string text = "nnx_wrappers needs Flax, and Flax " + version_of("flax") +
                             " cannot be imported with JAX " + version_of("jax") + " (" +
                             py::utf8(error.value()) +
                             "); install a pair that fits, such as the newest of both.";
    nb::raise_from(error, PyExc_ImportError, "%s", text.c_str());
    throw nb::python_error();
  }
}

bool takes_argument(nb::handle function, const char* name) {
  const nb::object signature = nb::module_::import_("inspect").attr("signature")(function);
  return py::contains(signature.attr("parameters"), nb::str(name));
}

std::string version_of(const char* package) {
  try {
    return nb::cast<std::string>(
        nb::module_::import_("importlib.metadata").attr("version")(package));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_ImportError)) throw;  // PackageNotFoundError is one
    return "(not installed)";
  } catch (const nb::cast_error&) {  // the package's metadata has no version
    return "(not installed)";
  }
}

}  // namespace nnx_wrappers::upstream
