#include "graph/static_key.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <utility>

#include "graph/identity_key.h"
#include "graph/key_builder.h"
#include "graph/pin.h"
#include "py/cache_registry.h"
#include "py/function.h"
#include "py/object.h"
#include "py/once.h"
#include "py/recursion.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/interned.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/node.h"
#include "upstream/origin.h"
#include "upstream/trace_context.h"

namespace nnx_wrappers::graph {

namespace {

// Runs no Python, and throws only where there is no memory.
// NOLINTNEXTLINE(cert-err58-cpp,bugprone-throwing-static-initialization)
const py::CacheRegistration kRegistration({"", {}, forget_keys});

// The last trace context and its key.
struct LastContext {
  nb::object context;
  nb::object key;
  nb::object common_key;
};

LastContext& last_context() {
  static constinit py::Once<LastContext> last;  // immortal: holds Python objects
  return last.get([] { return LastContext(); });
}

}  // namespace

bool is_exactly_one_of(nb::handle object, std::initializer_list<PyTypeObject*> types) {
  for (PyTypeObject* type : types) {
    if (object.type().ptr() == reinterpret_cast<PyObject*>(type)) return true;
  }
  return false;
}

nb::object tagged_key(const char* kind, std::initializer_list<nb::object> parts) {
  nb::list key;
  key.append(upstream::sentinel());
  key.append(nb::str(kind));
  for (const nb::object& part : parts) {
    if (!part.is_valid()) return {};
    key.append(part);
  }
  return nb::tuple(key);
}

// The key of an object by identity, which does not keep it alive.
nb::object KeyBuilder::weak_key(nb::handle object) {
  if (by_identity_ != nullptr) by_identity_->push_back(nb::borrow(object));
  return identity_key(object);
}

// The key of an object by its address, whatever its hash: whoever keeps the key owns the object.
nb::object KeyBuilder::id_key(nb::handle object) {
  if (by_identity_ != nullptr) by_identity_->push_back(nb::borrow(object));
  return tagged_key("object", {py::id(object)});
}

nb::object KeyBuilder::elements_key(const std::vector<nb::object>& objects) {
  nb::list keys;
  for (const nb::object& object : objects) {
    nb::object key = key_of(object);
    if (!key.is_valid()) return {};
    keys.append(key);
  }
  return nb::tuple(keys);
}

nb::object KeyBuilder::items_key(const std::vector<py::Item>& items) {
  nb::list keys;
  for (const auto& [name, value] : items) {
    nb::object name_key = key_of(name);
    nb::object value_key = key_of(value);
    if (!name_key.is_valid() || !value_key.is_valid()) return {};
    keys.append(nb::make_tuple(name_key, value_key));
  }
  return nb::tuple(keys);
}

nb::object KeyBuilder::keywords_key(const nb::dict& keywords) {
  return tagged_key("frozen", {items_key(py::dict_items(keywords))});
}

nb::object KeyBuilder::linen_module_key(nb::handle module) {
  if (unknown_ == Unknown::kByIdentity && !py::get(module, upstream::names().scope).is_none())
    return {};
  const upstream::Names& n = upstream::names();
  const nb::object fields = py::get(module, n.dataclass_fields);
  nb::list keys;
  for (const auto& [name, field] : py::mapping_items(fields)) {
    if (name.equal(n.parent) || name.equal(n.name)) continue;
    nb::object key = key_of(py::get(module, name));
    if (!key.is_valid()) return {};
    keys.append(nb::make_tuple(name, key));
  }
  return tagged_key("linen", {weak_key(module.type()), nb::tuple(keys)});
}

namespace {

// True for a value that holds no object whose contents code could change.
bool holds_nothing_mutable(nb::handle value) {
  const py::RecursionGuard guard(" while reading static arguments");
  PyObject* ptr = value.ptr();
  if (PyTuple_CheckExact(ptr) != 0 || PyFrozenSet_CheckExact(ptr) != 0) {
    return std::ranges::all_of(py::elements(value), holds_nothing_mutable);
  }
  if (is_atom(ptr) || py::is_class(value) || PyCFunction_Check(ptr) != 0) return true;
  if (PyFunction_Check(ptr) != 0) return py::cells_of(value).empty();
  const nb::handle type = value.type();
  if (py::is_frozen_dataclass(type)) {
    const nb::object fields = py::optional_instance_dict(value);
    return fields.is_valid() && std::ranges::all_of(py::dict_items(fields), [](const auto& field) {
             return holds_nothing_mutable(field.second);
           });
  }
  return upstream::is_opaque_class(type) || py::is_subtype(type, upstream::facade().enum_type);
}

// True if equal objects of this type of a library are the same to any code: meshes, and objects
// that equal only themselves. Of others the text tells equal ones apart: 0.0 and -0.0, an hour in
// two time zones.
bool is_told_by_equality(nb::handle type) {
  const upstream::Facade& f = upstream::facade();
  return type.is(f.mesh) || type.is(f.abstract_mesh) ||
         py::as_type(type)->tp_richcompare == PyBaseObject_Type.tp_richcompare;
}

}  // namespace

// The key of an object of another type. A frozen dataclass is keyed by its fields, without its own
// `__eq__` and `__hash__`; but one that holds a list, say, is what it is, since a module may keep
// the list.
nb::object KeyBuilder::unknown_key(nb::handle object) {
  const nb::object type = nb::borrow(object.type());
  if (upstream::is_array(object)) return {};
  if (upstream::is_opaque_class(type) && upstream::is_told_by_text(type)) {  // by its own hash
    if (PyObject_Hash(object.ptr()) == -1) {
      if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw nb::python_error();
      PyErr_Clear();
      return {};
    }
    const nb::object text = is_told_by_equality(type) ? nb::none() : nb::object(nb::repr(object));
    return nb::make_tuple(type, object, text);
  }
  const auto* layout = py::as_type(type)->tp_base;
  if (layout == &PyBaseObject_Type && py::is_frozen_dataclass(type)) {
    const nb::object fields = py::optional_instance_dict(object);
    if (fields.is_valid() && holds_nothing_mutable(object)) {
      return tagged_key("fields", {weak_key(type), items_key(py::dict_items(fields))});
    }
  }
  return id_key(object);
}

namespace {

// Equal dtypes may have other types in C and other byte orders, and those with parts or with
// metadata, which have no key, more that differs.
nb::object dtype_key(nb::handle dtype) {
  const auto has_no = [&](const char* name) { return py::get(dtype, nb::str(name)).is_none(); };
  if (!has_no("metadata") || !has_no("fields") || !has_no("subdtype")) return {};
  return nb::make_tuple(dtype.type(), dtype, py::get(dtype, nb::str("num")),
                        py::get(dtype, nb::str("byteorder")));
}

}  // namespace

std::optional<nb::object> KeyBuilder::builtin_key(nb::handle object) {
  PyObject* ptr = object.ptr();
  if (object.is_none() || ptr == Py_Ellipsis ||
      is_exactly_one_of(object, {&PyUnicode_Type, &PyLong_Type})) {
    return nb::borrow(object);
  }
  if (is_exactly_one_of(object, {&PyBool_Type, &PyBytes_Type})) {
    return nb::make_tuple(object.type(), nb::repr(object));
  }
  // The bits tell 0.0 from -0.0 and one nan from another.
  if (is_exactly_one_of(object, {&PyFloat_Type})) {
    return nb::make_tuple(object.type(), std::bit_cast<std::uint64_t>(PyFloat_AS_DOUBLE(ptr)));
  }
  if (is_exactly_one_of(object, {&PyComplex_Type})) {
    const Py_complex number = PyComplex_AsCComplex(ptr);
    return nb::make_tuple(object.type(), std::bit_cast<std::uint64_t>(number.real),
                          std::bit_cast<std::uint64_t>(number.imag));
  }
  if (py::is_class(object)) return weak_key(object);
  if (is_exactly_one_of(object, {&PyTuple_Type})) return elements_key(py::elements(object));
  if (is_exactly_one_of(object, {&PyList_Type})) {
    return tagged_key("list", {elements_key(py::elements(object))});
  }
  if (is_exactly_one_of(object, {&PySet_Type, &PyFrozenSet_Type})) {  // by the order of iteration
    return tagged_key("set", {nb::borrow(object.type()), elements_key(py::elements(object))});
  }
  if (is_exactly_one_of(object, {&PyDict_Type})) {
    return tagged_key("dict", {items_key(py::dict_items(object))});
  }
  if (is_exactly_one_of(object, {&PyFunction_Type})) return function_key(object);
  if (is_exactly_one_of(object, {&PyCFunction_Type})) {
    return py::is_free_builtin(object) ? nb::borrow(object) : nb::object();
  }
  if (is_exactly_one_of(object, {&PyMethod_Type})) {
    return tagged_key("method", {key_of(py::get(object, nb::str("__func__"))),
                                 key_of(py::get(object, upstream::names().self_dunder))});
  }
  return std::nullopt;
}

nb::object KeyBuilder::key_of(nb::handle object) {
  const py::RecursionGuard guard(" while reading static arguments");
  if (std::optional<nb::object> key = builtin_key(object)) return *std::move(key);
  const upstream::Facade& f = upstream::facade();
  // Owned, since user code may change the class of the object meanwhile.
  const nb::object type = nb::borrow(object.type());
  if (type.is(f.partial)) {
    const nb::object attributes = py::dict_of_partial(object);
    return tagged_key("partial",
                      {key_of(py::get(object, upstream::names().func)),
                       key_of(py::get(object, upstream::names().args)),
                       items_key(py::dict_items(py::get(object, nb::str("keywords")))),
                       attributes.is_valid() ? items_key(py::dict_items(attributes)) : nb::none()});
  }
  if (type.is(f.frozen_dict)) return keywords_key(nb::cast<nb::dict>(upstream::level_dict(object)));
  // The text tells an axis that is a text from one that is an equal member of an enum.
  if (type.is(f.partition_spec)) return nb::make_tuple(type, object, nb::repr(object));
  if (py::is_subtype(type, f.numpy_dtype)) return dtype_key(object);
  if (py::is_subtype(type, f.enum_type)) return id_key(object);
  if (upstream::wraps_functions(type)) return weak_key(object);
  if (py::is_subtype(type, f.linen_module)) return linen_module_key(object);
  if (unknown_ == Unknown::kRefuse) return {};
  const auto* layout = py::as_type(type);
  if (layout->tp_base == &PyTuple_Type && layout->tp_dictoffset == 0) {  // a named tuple
    return tagged_key("tuple", {weak_key(type), elements_key(py::elements(object))});
  }
  if (upstream::kind_of(object) != upstream::NodeKind::kLeaf) return {};
  return unknown_key(object);
}

nb::object static_key(nb::handle object, Unknown unknown) {
  return KeyBuilder(unknown).key_of(object);
}

std::vector<nb::object> known_by_identity(nb::handle object) {
  std::vector<nb::object> found;
  KeyBuilder(Unknown::kByIdentity, &found).key_of(object);
  return found;
}

nb::object static_key_of_keywords(const nb::dict& keywords, Unknown unknown) {
  return KeyBuilder(unknown).keywords_key(keywords);
}

namespace {

// The context is nearly always the last one, and comparing it is cheaper than hashing it, which
// runs Python code of the enums inside.
LastContext current_context() {
  LastContext now{upstream::facade().trace_context(), {}, {}};
  // Copied, since comparing may run code, during which another thread may replace it.
  LastContext last = last_context();
  if (last.context.is_valid() && py::equal(last.context, now.context)) return last;
  now.key = upstream::interned(now.context);
  now.common_key = upstream::interned(upstream::without_axes_and_meshes(now.context));
  // The old one dies after it is replaced, since a destructor may ask for the key.
  const LastContext dying = std::exchange(last_context(), now);
  return now;
}

}  // namespace

nb::object trace_context_key() { return current_context().key; }

nb::object common_context_key() { return current_context().common_key; }

void forget_keys() {
  // The entries die after the tables are empty, since destructors may call this library.
  const auto functions = take_function_keys();
  const auto identities = take_identity_keys();
  upstream::forget_interned();
  const LastContext dying = std::exchange(last_context(), {});
}

}  // namespace nnx_wrappers::graph
