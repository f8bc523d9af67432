// Raw CPython, wrapped at once: attribute access, calls and type tests that
// nanobind's accessors would make slower or noisier. Every returned nb::object
// owns its reference; every nb::handle argument is borrowed for the call.
// All functions need the GIL and may run user code (descriptors, __getattr__).
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <string>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// `object.name`; throws nb::python_error.
nb::object get(nb::handle object, nb::handle name);

// `object.name`, or an invalid nb::object where the attribute is missing
// (AttributeError is swallowed, every other error is thrown).
nb::object get_optional(nb::handle object, nb::handle name);

// The class attribute `type.name` if the class or a base has it; attributes of the
// metaclass (like `__call__` of a class without one) do not count. Otherwise an
// invalid nb::object.
nb::object class_attribute(nb::handle type, nb::handle name);

// `object.name = value`; throws nb::python_error.
void set(nb::handle object, nb::handle name, nb::handle value);

// object.__new__(type): no constructor runs.
nb::object allocate(nb::handle type);

// object.__setattr__(object, name, value): no `__setattr__` of the class runs.
void set_generic(nb::handle object, nb::handle name, nb::handle value);

// The instance's `__dict__`; throws TypeError if it has none.
nb::dict instance_dict(nb::handle object);

// A new instance of `type` with this `__dict__`; no constructor runs.
nb::object instance_with(nb::handle type, const nb::dict& attributes);

// `callable(*args, **kwargs)`.
nb::object call(nb::handle callable, const nb::tuple& args, const nb::dict& kwargs);

// (first, *rest): positional arguments with one more before them.
nb::tuple prepended(nb::handle first, const nb::tuple& rest);

// sys.name, looked up now: programs put other objects under these names.
nb::object sys(const char* name);

// id(object).
nb::object id(nb::handle object);

// Gives a Python class a __hash__ written in C: the hash of what `parts` returns. One
// class in a process can have one; a second call replaces what the first one set.
void set_hash(nb::handle type, nb::object (*parts)(nb::handle));

// isinstance(object, type), __instancecheck__ included.
bool is_instance(nb::handle object, nb::handle type);

// issubclass on real inheritance only: no metaclass code runs.
bool is_subtype(nb::handle type, nb::handle base);

// True for a class that dataclasses.dataclass(frozen=True) has made.
bool is_frozen_dataclass(nb::handle type);

// True for a class that a class statement of Python has made, or type().
bool is_of_python(nb::handle type);

// True if `object` is a class.
bool is_class(nb::handle object);

// True for a function written in Python, in C, or with nanobind; not for methods of
// Python objects and other callables.
bool is_function(nb::handle object);

// `left == right` as Python sees it.
bool equal(nb::handle left, nb::handle right);

// str(object) as UTF-8: what has no UTF-8 form (a lone surrogate) is spelt out.
std::string utf8(nb::handle object);

// The text of a str for an error message: at most 80 characters, always valid UTF-8.
std::string text_of(nb::handle string);

// The name of a type as users know it: `module.QualName` shortened to `QualName`.
// Runs no code of a metaclass.
std::string type_name(nb::handle type);

// "module.QualName" of a class or function, functools.partial taken off; the type's name
// of anything else. Reads attributes, so user code may run; its errors are swallowed.
std::string full_name(nb::handle callable);

// One phrase for an error message: "None", "the string 'x'", "the integer 3", "the class Foo",
// "an instance of Foo". Never calls a user's __repr__.
std::string describe(nb::handle object);

}  // namespace nnx_wrappers::py
