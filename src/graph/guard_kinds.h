// The kinds of guards, by what they compare. Each borrows its object: `guard.h` says why it may.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <utility>
#include <vector>

#include "graph/guard.h"

namespace nnx_wrappers::graph {

// The object itself: an argument, or a module of Python.
class ObjectGuard : public Guard {
 public:
  ObjectGuard(std::string path, nb::handle object)
      : Guard(std::move(path)), address_(object.ptr()), pin_(object) {}
  bool holds() override { return pin_.is_exactly(address_); }
  bool sees_every_change() const override { return true; }

 private:
  PyObject* address_;
  Pin pin_;
};

// A class: itself and its bases, attributes included.
class ClassGuard : public Guard {
 public:
  // `version` from py::assigned_type_version; not 0.
  ClassGuard(std::string path, nb::handle type, unsigned version)
      : Guard(std::move(path)), type_(type.ptr()), version_(version) {}
  bool holds() override;
  bool sees_every_change() const override { return true; }

 private:
  PyObject* type_;
  unsigned version_;
};

// A dict, or an object of a subclass, as a dict.
class DictGuard : public Guard {
 public:
  DictGuard(std::string path, nb::handle dict)
      : Guard(std::move(path)), dict_(dict.ptr()), items_(dict) {}
  bool holds() override { return items_.are_those_of(dict_); }
  std::string changed() const override { return path() + items_.changed(false); }
  size_t size() const override { return items_.size() + 1; }
  bool sees_every_change() const override { return items_.counts_changes(); }

 private:
  PyObject* dict_;
  DictItems items_;
};

// What an instance has in its `__dict__`, and its class.
class InstanceGuard : public Guard {
 public:
  // `dict` from py::counted_instance_dict.
  InstanceGuard(std::string path, nb::handle object, nb::handle dict)
      : Guard(std::move(path)), object_(object.ptr()), type_(object.type()), items_(dict) {}
  bool holds() override;
  std::string changed() const override { return path() + items_.changed(true); }
  size_t size() const override { return items_.size() + 1; }
  bool sees_every_change() const override { return items_.counts_changes(); }

 private:
  PyObject* object_;
  Pin type_;
  DictItems items_;
};

// The attributes of a module that code names, and the global names of functions: those that are
// there, and those that are not there yet.
class NamesGuard : public Guard {
 public:
  // `owner`: the module of the dict, or the dict where there is none.
  NamesGuard(std::string path, nb::handle owner, nb::handle dict);

  // "module.name", as the user's code would write it.
  static std::string path_of(const std::string& module, nb::handle name);

  // Adds a name; `value` is invalid for one that is not there.
  void add(nb::handle name, nb::handle value);

  // From now on the dict has to stay as long as it is.
  void fix_size() { size_of_dict_ = PyDict_Size(dict_); }

  bool holds() override;
  std::string changed() const override;
  size_t size() const override { return names_.size() + 1; }
  bool sees_every_change() const override { return version_ != 0; }

 private:
  Pin owner_;
  PyObject* owner_address_;
  PyObject* dict_;
  std::uint64_t version_;
  std::vector<std::pair<nb::object, Pin>> names_;
  Py_ssize_t size_of_dict_ = -1;
  size_t first_changed_ = 0;
};

// What an object of C or with `__slots__` holds in its members.
class MembersGuard : public Guard {
 public:
  struct Member {
    std::string name;
    Py_ssize_t offset;
  };

  MembersGuard(std::string path, nb::handle object, std::vector<Member> members);
  bool holds() override;
  std::string changed() const override { return path() + "." + members_[first_changed_].name; }
  size_t size() const override { return members_.size(); }

  // The value of a member; null where it has none.
  static PyObject* value(nb::handle object, const Member& member);

 private:
  PyObject* object_;
  Pin type_;
  std::vector<Member> members_;
  std::vector<Pin> values_;
  size_t first_changed_ = 0;
};

// The elements of a list, a set, a deque or an ordered dict's keys, in their order.
class ElementsGuard : public Guard {
 public:
  ElementsGuard(std::string path, nb::handle container);
  bool holds() override;
  std::string changed() const override { return path(); }
  size_t size() const override { return elements_.size() + 1; }

  // Borrowed; calls `visit` for each element until that returns false. The container is a list,
  // a set or a frozenset, a deque or an OrderedDict.
  template <typename Visit>
  static bool for_each(PyObject* container, const Visit& visit);

 private:
  // A set, a deque or an OrderedDict as a list. Runs no `__iter__` of a subclass.
  static nb::object listed(PyObject* container);

  PyObject* container_;
  std::vector<Pin> elements_;
};

// What the garbage collector knows that an object of C holds. Borrowed. `traverse`: that of the
// class of C that the object's class builds on, or of its own class.
std::vector<nb::handle> referents_of(nb::handle object, traverseproc traverse = nullptr);

// An object of C, by what it holds: a functools.partial, a property, an exception.
class ReferentsGuard : public Guard {
 public:
  ReferentsGuard(std::string path, nb::handle object, traverseproc traverse);
  bool holds() override;
  size_t size() const override { return referents_.size() + 1; }
  bool sees_every_change() const override { return true; }  // nearly all never change

 private:
  PyObject* object_;
  Pin type_;
  traverseproc traverse_;
  std::vector<Pin> referents_;
};

// What a cell of a closure holds.
class CellGuard : public Guard {
 public:
  CellGuard(std::string path, nb::handle cell)
      : Guard(std::move(path)), cell_(cell.ptr()), contents_(PyCell_GET(cell.ptr())) {}
  bool holds() override { return contents_.is(PyCell_GET(cell_)); }

 private:
  PyObject* cell_;
  Pin contents_;
};

// The code, the defaults and the attributes of a Python function. Its parts are compared when a
// recording begins and when it ends: that another thread replaces one of them and puts it back
// in between is taken as impossible.
class FunctionGuard : public Guard {
 public:
  FunctionGuard(std::string path, nb::handle function);
  bool holds() override;
  bool sees_every_change() const override { return true; }

 private:
  PyObject* function_;
  std::vector<Pin> parts_;
};

// The shape, dtype and bytes of an array of numpy; the bytes of a bytearray.
class BytesGuard : public Guard {
 public:
  // `bytes`: reads the object, which it is given, as an object to compare.
  using Read = nb::object (*)(nb::handle);
  BytesGuard(std::string path, nb::handle object, Read read)
      : Guard(std::move(path)), object_(object.ptr()), read_(read), value_(read(object)) {}
  bool holds() override;

 private:
  PyObject* object_;
  Read read_;
  nb::object value_;
};

// What a BytesGuard reads of an array of numpy, and of a bytearray.
nb::object bytes_of_numpy(nb::handle array);
nb::object bytes_of_bytearray(nb::handle array);

// The value of a context variable in the present context.
class ContextVarGuard : public Guard {
 public:
  ContextVarGuard(std::string path, nb::handle variable)
      : Guard(std::move(path)), variable_(variable.ptr()), value_(value(variable.ptr())) {}
  bool holds() override { return value_.is(value(variable_).ptr()); }

  // Invalid where it has none.
  static nb::object value(PyObject* variable);

 private:
  PyObject* variable_;
  Pin value_;
};

// What a threading.local holds in this thread.
class ThreadLocalGuard : public Guard {
 public:
  ThreadLocalGuard(std::string path, nb::handle local)
      : Guard(std::move(path)), local_(local.ptr()), items_(dict_of(local)) {}
  bool holds() override { return items_.are_those_of(dict_of(local_).ptr()); }
  std::string changed() const override { return path() + items_.changed(true); }
  size_t size() const override { return items_.size() + 1; }

  static nb::object dict_of(nb::handle local);

 private:
  PyObject* local_;
  DictItems items_;
};

// What a weak reference leads to.
class ReferenceGuard : public Guard {
 public:
  ReferenceGuard(std::string path, nb::handle reference)
      : Guard(std::move(path)), reference_(reference.ptr()), target_(target(reference.ptr())) {}
  bool holds() override { return target_.is(target(reference_).ptr()); }

  // Invalid if it is gone.
  static nb::object target(PyObject* reference);

 private:
  PyObject* reference_;
  Pin target_;
};

// What functools.lru_cache has kept: it is still there. More may have come since.
class MemoGuard : public Guard {
 public:
  MemoGuard(std::string path, nb::handle dict);
  bool holds() override;
  size_t size() const override { return items_.size() + 1; }

 private:
  PyObject* dict_;
  std::vector<std::pair<nb::object, Pin>> items_;
};

template <typename Visit>
bool ElementsGuard::for_each(PyObject* container, const Visit& visit) {
  if (PyList_Check(container)) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(container); ++i) {
      if (!visit(PyList_GET_ITEM(container, i))) return false;
    }
    return true;
  }
  const nb::object elements = listed(container);
  return for_each(elements.ptr(), visit);
}

}  // namespace nnx_wrappers::graph
