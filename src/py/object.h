// Attribute access, calls and type tests, in fewer steps than nanobind's accessors take. Every
// returned nb::object owns its reference; every nb::handle argument is borrowed for the call. All
// functions need the GIL and may run user code (descriptors, __getattr__).
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>
#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// `object.name`; throws nb::python_error.
nb::object get(nb::handle object, nb::handle name);

// `object.name`, or an invalid object if reading it raises AttributeError. Other errors are thrown.
nb::object get_optional(nb::handle object, nb::handle name);

// `type.name` if the class or a base defines it, else an invalid object. Attributes of the
// metaclass do not count: `type.__call__` exists for every class.
nb::object class_attribute(nb::handle type, nb::handle name);

// `object.name = value`; throws nb::python_error.
void set(nb::handle object, nb::handle name, nb::handle value);

// `object.__new__(type)`: no constructor runs.
nb::object allocate(nb::handle type);

// `object.__setattr__(object, name, value)`: no `__setattr__` of the class runs.
void set_generic(nb::handle object, nb::handle name, nb::handle value);

// The `__dict__` of an instance, or an invalid object if it has none. A `__dict__` that the class
// defines is not read.
nb::object optional_instance_dict(nb::handle object);

// The same; throws TypeError if it has none.
nb::dict instance_dict(nb::handle object);

// A new instance of `type` with this `__dict__`; no constructor runs.
nb::object instance_with(nb::handle type, const nb::dict& attributes);

// `callable(*args, **kwargs)`.
nb::object call(nb::handle callable, const nb::tuple& args, const nb::dict& kwargs);

// `(first, *rest)`.
nb::tuple prepended(nb::handle first, const nb::tuple& rest);

// `sys.name`, read at each call, since programs replace such objects.
nb::object sys(const char* name);

// `id(object)`.
nb::object id(nb::handle object);

// Gives a Python class a `__hash__` in C: the hash of the object that `parts` returns for the
// instance. Only one class in a process can have one, with the `parts` of the last call.
void set_hash(nb::handle type, nb::object (*parts)(nb::handle));

// `isinstance(object, type)`, `__instancecheck__` included.
bool is_instance(nb::handle object, nb::handle type);

// `issubclass(type, base)` by real inheritance alone: no metaclass code runs.
bool is_subtype(nb::handle type, nb::handle base);

// True for a dataclass that is frozen.
bool is_frozen_dataclass(nb::handle type);

// True for a class whose objects hold nothing but attributes, in a dict or in slots.
bool holds_only_attributes(nb::handle type);

// The descriptors of the slots of such a class.
std::vector<nb::object> slots_of(nb::handle type);

// What a slot of an object holds; invalid if nothing. Runs no Python.
nb::object slot_value(nb::handle slot, nb::handle object);

// Sets it, whatever `__setattr__` the class has. Runs no Python.
void set_slot(nb::handle slot, nb::handle object, nb::handle value);

// The dict of the attributes of a functools.partial; invalid if it has none so far. Makes none,
// since a partial of a partial without one is another object.
nb::object dict_of_partial(nb::handle partial);

// True for an object whose end somebody may notice: one with weak references, or of a class with a
// `__del__`.
bool is_observed(nb::handle object);

// True for a class that was made by a class statement or by calling a metaclass.
bool is_defined_in_python(nb::handle type);

// `bool(object)`.
bool truthy(nb::handle object);

// True if `object` is a class.
bool is_class(nb::handle object);

// The C struct of a class.
inline PyTypeObject* as_type(nb::handle type) {
  return reinterpret_cast<PyTypeObject*>(type.ptr());
}

// True for a function in Python, in C, or made by nanobind; false for methods of Python objects and
// other callables.
bool is_function(nb::handle object);

// `left == right` or `left is right`.
bool equal(nb::handle left, nb::handle right);

// `str(object)` in UTF-8. Characters that UTF-8 does not have (lone surrogates) are escaped.
std::string utf8(nb::handle object);

// The text of a str for an error message: at most 80 characters, always valid UTF-8.
std::string shortened(nb::handle string);

// The qualified name of a type without its module, and without the function that made it. Runs no
// code of a metaclass.
std::string type_name(nb::handle type);

// "module.QualName" of a class or function, or of the one inside a functools.partial; the name of
// the type for every other object. Reads attributes, so user code may run; its errors are ignored.
std::string full_name(nb::handle callable);

// A phrase for an error message: "None", "the string 'x'", "the integer 3", "the class Foo", "an
// instance of Foo". Never calls a user's __repr__.
std::string describe(nb::handle object);

}  // namespace nnx_wrappers::py
