// The kinds of guards. Each borrows its object; guard.h says why it may.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <utility>
#include <vector>

#include "graph/guard.h"

namespace nnx_wrappers::graph {

// Compares which object it is, and nothing that it holds.
class IdentityGuard : public Guard {
 public:
  IdentityGuard(std::string path, nb::handle object)
      : Guard(std::move(path)), address_(object.ptr()), pin_(object) {}
  bool holds() override { return pin_.is_exactly(address_); }
  bool sees_every_change() const override { return true; }

 private:
  PyObject* address_;
  Pin pin_;
};

// Compares a class with its bases and all their attributes, by the version of the class.
class ClassGuard : public Guard {
 public:
  // `version` is from py::assigned_type_version, and not 0.
  ClassGuard(std::string path, nb::handle type, unsigned version)
      : Guard(std::move(path)), type_(type.ptr()), version_(version) {}
  bool holds() override;
  bool sees_every_change() const override { return true; }

 private:
  PyObject* type_;
  unsigned version_;
};

// Compares the items of a dict, which may be of a subclass.
class DictGuard : public Guard {
 public:
  DictGuard(std::string path, nb::handle dict)
      : Guard(std::move(path)), dict_(dict.ptr()), items_(dict) {}
  bool holds() override { return items_.matches(dict_); }
  std::string changed_part() const override { return path() + items_.changed_part(false); }
  size_t size() const override { return items_.size() + 1; }
  bool sees_every_change() const override { return items_.has_version(); }

 private:
  PyObject* dict_;
  DictItems items_;
};

// Compares the class of an instance and the attributes in its `__dict__`.
class InstanceGuard : public Guard {
 public:
  // `dict` is from py::versioned_instance_dict.
  InstanceGuard(std::string path, nb::handle object, nb::handle dict)
      : Guard(std::move(path)), object_(object.ptr()), type_(object.type()), items_(dict) {}
  bool holds() override;
  std::string changed_part() const override { return path() + items_.changed_part(true); }
  size_t size() const override { return items_.size() + 1; }
  bool sees_every_change() const override { return items_.has_version(); }

 private:
  PyObject* object_;
  Pin type_;
  DictItems items_;
};

// Compares names in the dict of a module: the attributes and globals that code names, those that do
// not exist included.
class NamesGuard : public Guard {
 public:
  // `owner` is the module of the dict, or the dict itself if it has none.
  NamesGuard(std::string path, nb::handle owner, nb::handle dict);

  // "module.name", as the user's code would write it.
  static std::string path_of(const std::string& module, nb::handle name);

  // Adds a name; `value` is invalid if the dict does not have it.
  void add(nb::handle name, nb::handle value);

  // Compares from now on the number of names in the dict too.
  void fix_size() { fixed_size_ = number_of_names(); }

  bool holds() override;
  std::string changed_part() const override;
  size_t size() const override { return names_.size() + 1; }
  bool sees_every_change() const override { return version_ != 0; }

 private:
  // Without that of the registry in which Python notes the warnings that a module has given.
  Py_ssize_t number_of_names() const;

  Pin owner_;
  PyObject* owner_address_;
  PyObject* dict_;
  std::uint64_t version_;
  std::vector<std::pair<nb::object, Pin>> names_;
  Py_ssize_t fixed_size_ = -1;  // -1: not compared
  size_t first_changed_ = 0;
};

// Compares the members of an object: its `__slots__`.
class MembersGuard : public Guard {
 public:
  struct Member {
    std::string name;
    Py_ssize_t offset;
  };

  MembersGuard(std::string path, nb::handle object, std::vector<Member> members);
  bool holds() override;
  std::string changed_part() const override { return path() + "." + members_[first_changed_].name; }
  size_t size() const override { return members_.size(); }

  // The value of a member; null if it has none.
  static PyObject* value(nb::handle object, const Member& member);

 private:
  PyObject* object_;
  Pin type_;
  std::vector<Member> members_;
  std::vector<Pin> values_;
  size_t first_changed_ = 0;
};

// Compares the elements of a list, a set or a deque, or the keys of an OrderedDict, in their order.
class ElementsGuard : public Guard {
 public:
  ElementsGuard(std::string path, nb::handle container);
  bool holds() override;
  std::string changed_part() const override { return path(); }
  size_t size() const override { return elements_.size() + 1; }

  // Calls `visit` with each element, borrowed, until it returns false. Returns false then. The
  // container is a list, a set or a frozenset, a deque or an OrderedDict.
  template <typename Visit>
  static bool for_each(PyObject* container, const Visit& visit);

 private:
  // A list of the elements of a set, a deque or an OrderedDict. Runs no `__iter__` of a subclass.
  static nb::object listed(PyObject* container);

  PyObject* container_;
  std::vector<Pin> elements_;
};

// The objects that an object holds, as far as the garbage collector knows them, borrowed.
// `traverse` is that of a base of the object's class, or null for that of the class itself.
std::vector<nb::handle> referents_of(nb::handle object, traverseproc traverse = nullptr);

// Compares the objects that an object of a C class holds: a functools.partial, a property, an
// exception.
class ReferentsGuard : public Guard {
 public:
  ReferentsGuard(std::string path, nb::handle object, traverseproc traverse);
  bool holds() override;
  size_t size() const override { return referents_.size() + 1; }
  bool sees_every_change() const override { return true; }  // nearly all such objects never change

 private:
  PyObject* object_;
  Pin type_;
  traverseproc traverse_;
  std::vector<Pin> referents_;
};

// Compares the contents of a cell of a closure.
class CellGuard : public Guard {
 public:
  CellGuard(std::string path, nb::handle cell)
      : Guard(std::move(path)), cell_(cell.ptr()), contents_(PyCell_GET(cell.ptr())) {}
  bool holds() override { return contents_.is(PyCell_GET(cell_)); }

 private:
  PyObject* cell_;
  Pin contents_;
};

// Compares the code, the defaults and the attributes of a Python function. It is assumed that no
// other thread replaces one of these while a recording runs, and puts it back before the end.
class FunctionGuard : public Guard {
 public:
  FunctionGuard(std::string path, nb::handle function);
  bool holds() override;
  bool sees_every_change() const override { return true; }

 private:
  PyObject* function_;
  std::vector<Pin> parts_;
};

// Compares a state that a function reads: the bytes of an array or a bytearray, for example.
class ReadGuard : public Guard {
 public:
  // Reads the state of the object as an object that is compared by `==`.
  using Read = nb::object (*)(nb::handle);
  ReadGuard(std::string path, nb::handle object, Read read)
      : Guard(std::move(path)), object_(object.ptr()), read_(read), value_(read(object)) {}
  bool holds() override;

 private:
  PyObject* object_;
  Read read_;
  nb::object value_;
};

// The states of a numpy array (shape, dtype and bytes) and of a bytearray, for a ReadGuard.
nb::object bytes_of_numpy(nb::handle array);
nb::object bytes_of_bytearray(nb::handle array);

// Compares the value of a context variable in the current context.
class ContextVarGuard : public Guard {
 public:
  ContextVarGuard(std::string path, nb::handle variable)
      : Guard(std::move(path)), variable_(variable.ptr()), value_(value(variable.ptr())) {}
  bool holds() override { return value_.is(value(variable_).ptr()); }

  // The value; invalid if it has none.
  static nb::object value(PyObject* variable);

 private:
  PyObject* variable_;
  Pin value_;
};

// Compares the attributes that a threading.local has in this thread.
class ThreadLocalGuard : public Guard {
 public:
  ThreadLocalGuard(std::string path, nb::handle local)
      : Guard(std::move(path)), local_(local.ptr()), items_(dict_of(local)) {}
  bool holds() override { return items_.matches(dict_of(local_).ptr()); }
  std::string changed_part() const override { return path() + items_.changed_part(true); }
  size_t size() const override { return items_.size() + 1; }

  static nb::object dict_of(nb::handle local);

 private:
  PyObject* local_;
  DictItems items_;
};

// Compares the target of a weak reference.
class WeakReferenceGuard : public Guard {
 public:
  WeakReferenceGuard(std::string path, nb::handle reference)
      : Guard(std::move(path)), reference_(reference.ptr()), target_(target(reference.ptr())) {}
  bool holds() override { return target_.is(target(reference_).ptr()); }

  // The target; invalid if it is dead.
  static nb::object target(PyObject* reference);

 private:
  PyObject* reference_;
  Pin target_;
};

// Compares the results that a functools.lru_cache has kept: they are still there. It may have kept
// more since.
class LruCacheGuard : public Guard {
 public:
  LruCacheGuard(std::string path, nb::handle dict);
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
