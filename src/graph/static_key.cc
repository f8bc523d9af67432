#include "graph/static_key.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "py/cache_registry.h"
#include "py/containers.h"
#include "py/function.h"
#include "py/object.h"
#include "py/once.h"
#include "py/recursion.h"
#include "py/versions.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/interned.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/node.h"
#include "upstream/origin.h"

namespace nnx_wrappers::graph {

namespace {

const py::CacheRegistration kRegistration({"", {}, forget_keys});

nb::object weak(nb::handle object) {
  PyObject* reference = PyWeakref_NewRef(object.ptr(), nullptr);
  if (reference == nullptr) {
    if (PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw nb::python_error();
    PyErr_Clear();
    return {};
  }
  return nb::steal(reference);
}

bool is_exactly_one_of(nb::handle object, std::initializer_list<PyTypeObject*> types) {
  for (PyTypeObject* type : types) {
    if (object.type().ptr() == reinterpret_cast<PyObject*>(type)) return true;
  }
  return false;
}

// (mark, kind, part, part, ...), or invalid if one of the parts is.
nb::object tagged(const char* kind, std::initializer_list<nb::object> parts) {
  nb::list key;
  key.append(upstream::mark());
  key.append(nb::str(kind));
  for (const nb::object& part : parts) {
    if (!part.is_valid()) return {};
    key.append(part);
  }
  return nb::tuple(key);
}

// One key that is being made. Hashing runs user code, which may ask for another.
struct KeyBuilder {
  Unknown unknown;
  std::vector<nb::object>* by_identity = nullptr;  // told each object that is known so
  std::vector<PyObject*> functions = {};  // those above, outermost first: one may hold itself
};

// A weak reference as the key of an object that is known by identity.
nb::object identity(nb::handle object, const KeyBuilder& builder) {
  if (builder.by_identity != nullptr) builder.by_identity->push_back(nb::borrow(object));
  return weak(object);
}

// The same without a look at how the object hashes: whoever uses the key holds the object.
nb::object by_id(nb::handle object, const KeyBuilder& builder) {
  if (builder.by_identity != nullptr) builder.by_identity->push_back(nb::borrow(object));
  return tagged("object", {py::id(object)});
}

nb::object key_of(nb::handle object, KeyBuilder& builder);

nb::object keys_of(const std::vector<nb::object>& objects, KeyBuilder& builder) {
  nb::list keys;
  for (const nb::object& object : objects) {
    nb::object key = key_of(object, builder);
    if (!key.is_valid()) return {};
    keys.append(key);
  }
  return nb::tuple(keys);
}

nb::object items_key(const std::vector<py::Item>& items, KeyBuilder& builder) {
  nb::list keys;
  for (const auto& [name, value] : items) {
    nb::object name_key = key_of(name, builder);
    nb::object value_key = key_of(value, builder);
    if (!name_key.is_valid() || !value_key.is_valid()) return {};
    keys.append(nb::make_tuple(name_key, value_key));
  }
  return nb::tuple(keys);
}

nb::object key_of_keywords(const nb::dict& keywords, KeyBuilder& builder) {
  return tagged("frozen", {items_key(py::dict_items(keywords), builder)});
}

// Objects that never change and hold nothing that does.
bool is_atom(nb::handle object) {
  const py::RecursionGuard guard(" while reading what a function closes over");
  PyObject* ptr = object.ptr();
  if (PyTuple_CheckExact(ptr)) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(ptr); ++i) {
      const nb::handle item = PyTuple_GetItem(ptr, i);
      if (py::is_class(item) || !is_atom(item)) return false;
    }
    return true;
  }
  return ptr == Py_None || py::is_class(object) || py::is_free_builtin(object) ||
         is_exactly_one_of(
             object, {&PyBool_Type, &PyLong_Type, &PyFloat_Type, &PyUnicode_Type, &PyBytes_Type});
}

// What a function is made of: its code, its defaults, its names and what it closes over; and
// the attributes that it was given.
struct FunctionParts {
  std::vector<nb::object> parts;
  std::vector<py::Item> attributes;
  nb::object globals;       // their id
  bool is_complete = true;  // false: an empty cell, the function is still being defined
  bool is_atomic = true;

  explicit FunctionParts(nb::handle function) {
    for (nb::handle name : named()) parts.push_back(py::get(function, name));
    for (const nb::object& cell : py::cells_of(function)) {
      parts.push_back(py::cell_contents(cell));
      is_complete = is_complete && parts.back().is_valid();
    }
    globals = py::id(PyFunction_GetGlobals(function.ptr()));
    attributes = py::dict_items(py::get(function, upstream::names().dict_dunder));
    is_atomic = attributes.empty();
    for (size_t i = 1; is_complete && i < parts.size(); ++i) {
      is_atomic = is_atomic && is_atom(parts[i]);
    }
  }

  static constexpr int kNamed = 5;

  // The attributes that come first.
  static std::array<nb::handle, kNamed> named() {
    const upstream::Names& n = upstream::names();
    return {n.code_dunder, n.defaults_dunder, n.kwdefaults_dunder, n.name_dunder,
            n.qualname_dunder};
  }

  nb::object key(KeyBuilder& builder) const {
    if (!is_complete) return {};
    nb::object keywords = nb::make_tuple();
    if (!parts[2].is_none()) keywords = items_key(py::dict_items(parts[2]), builder);
    const std::vector<nb::object> cells(parts.begin() + kNamed, parts.end());
    // Weak, since hashing code takes long and a weak reference does it once.
    // By identity too: equal code may belong to other globals; and the same code may.
    return tagged("function", {py::id(parts[0]), weak(parts[0]), globals, keys_of(cells, builder),
                               key_of(parts[1], builder), keywords, parts[3], parts[4],
                               items_key(attributes, builder)});
  }
};

// A part as it is remembered: code and classes weakly, so that none is kept alive.
nb::object remembered(const nb::object& part) {
  return py::is_class(part) || PyCode_Check(part.ptr()) ? weak(part) : part;
}

std::vector<nb::object> remembered(const FunctionParts& all) {
  std::vector<nb::object> kept;
  kept.reserve(all.parts.size());
  for (const nb::object& part : all.parts) kept.push_back(remembered(part));
  return kept;
}

// True if `function` is still made of these parts.
bool is_made_of(nb::handle function, const std::vector<nb::object>& kept) {
  size_t next = 0;
  for (nb::handle name : FunctionParts::named()) {
    if (!remembered(py::get(function, name)).is(kept[next++])) return false;
  }
  const std::vector<nb::object> cells = py::cells_of(function);
  if (kept.size() != next + cells.size()) return false;
  if (PyDict_Size(py::get(function, upstream::names().dict_dunder).ptr()) != 0) return false;
  for (const nb::object& cell : cells) {
    const nb::object contents = py::cell_contents(cell);
    if (!contents.is_valid() || !remembered(contents).is(kept[next++])) return false;
  }
  return true;
}

struct KnownFunction {
  nb::object reference;  // weak
  std::vector<nb::object> parts;
  nb::object key;
};

// What is remembered between keys.
struct Memory {
  static constexpr size_t kMost = 4096;  // entries of a table; when full it forgets all
  std::unordered_map<PyObject*, std::shared_ptr<const KnownFunction>> functions;
  nb::object context;
  nb::object context_key;
};

Memory& memory() {
  static constinit py::Once<Memory> memory;  // immortal: holds Python objects
  return memory.get([] { return Memory(); });
}

// While it lasts, the function counts as above those whose keys are made.
class FunctionFrame {
 public:
  FunctionFrame(KeyBuilder& builder, nb::handle function) : builder_(builder) {
    builder_.functions.push_back(function.ptr());
  }
  ~FunctionFrame() { builder_.functions.pop_back(); }
  FunctionFrame(const FunctionFrame&) = delete;
  FunctionFrame& operator=(const FunctionFrame&) = delete;

 private:
  KeyBuilder& builder_;
};

nb::object function_key(nb::handle function, KeyBuilder& builder) {
  if (py::get(function, upstream::names().closure_dunder).is_none())
    return identity(function, builder);
  const auto found_above = std::ranges::find(builder.functions, function.ptr());
  if (found_above != builder.functions.end()) {
    return tagged("function above", {nb::int_(found_above - builder.functions.begin())});
  }
  const FunctionFrame frame(builder, function);
  auto& known = memory().functions;
  const nb::object reference = weak(function);
  const auto found = known.find(function.ptr());
  // A dead function's reference never equals that of another at its address. Held: comparing
  // may collect garbage, whose finalizers may forget.
  const auto entry = found == known.end() ? nullptr : found->second;
  if (builder.by_identity == nullptr && entry != nullptr && entry->reference.is(reference) &&
      is_made_of(function, entry->parts)) {
    return entry->key;
  }
  FunctionParts parts(function);
  if (!parts.is_complete || !parts.is_atomic) return parts.key(builder);
  nb::object key = upstream::interned(parts.key(builder));
  if (known.size() >= Memory::kMost) forget_keys();
  auto made =
      std::make_shared<const KnownFunction>(KnownFunction{reference, remembered(parts), key});
  const auto dying = std::exchange(known[function.ptr()], std::move(made));
  return key;
}

nb::object linen_module_key(nb::handle module, KeyBuilder& builder) {
  if (builder.unknown == Unknown::kByIdentity &&
      !py::get(module, upstream::names().scope).is_none())
    return {};
  const upstream::Names& n = upstream::names();
  const nb::object fields = py::get(module, n.dataclass_fields);
  nb::list keys;
  for (const auto& [name, field] : py::mapping_items(fields)) {
    if (name.equal(n.parent) || name.equal(n.name)) continue;
    nb::object key = key_of(py::get(module, name), builder);
    if (!key.is_valid()) return {};
    keys.append(nb::make_tuple(name, key));
  }
  return tagged("linen", {identity(module.type(), builder), nb::tuple(keys)});
}

// By what it holds, if nobody can set that: no code of the user's compares or hashes it.
nb::object unknown_key(nb::handle object, KeyBuilder& builder) {
  const nb::object type = nb::borrow(object.type());
  if (upstream::is_array(object)) return {};
  if (upstream::is_opaque_class(type)) {  // of JAX or numpy: their own hash
    // Numbers of a class are told apart by their texts: 0.0 from -0.0.
    nb::object text = nb::none();
    if (PyNumber_Check(object.ptr()) != 0) text = nb::repr(object);
    if (PyObject_Hash(object.ptr()) != -1) return nb::make_tuple(type, object, text);
    if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw nb::python_error();
    PyErr_Clear();
    return {};
  }
  const auto* layout = reinterpret_cast<PyTypeObject*>(type.ptr())->tp_base;
  if (layout == &PyBaseObject_Type && py::is_frozen_dataclass(type)) {
    const nb::object fields = py::present_instance_dict(object);
    if (fields.is_valid()) {
      return tagged("fields",
                    {identity(type, builder), items_key(py::dict_items(fields), builder)});
    }
  }
  return by_id(object, builder);
}

nb::object key_of(nb::handle object, KeyBuilder& builder) {
  const py::RecursionGuard guard(" while reading static arguments");
  const upstream::Facade& f = upstream::facade();
  PyObject* ptr = object.ptr();
  if (object.is_none() || ptr == Py_Ellipsis ||
      is_exactly_one_of(object, {&PyUnicode_Type, &PyLong_Type})) {
    return nb::borrow(object);
  }
  if (is_exactly_one_of(object, {&PyBool_Type, &PyFloat_Type, &PyComplex_Type, &PyBytes_Type})) {
    // repr tells 0.0 from -0.0, and equals itself for nan.
    return nb::make_tuple(object.type(), nb::repr(object));
  }
  if (py::is_class(object)) return identity(object, builder);
  if (is_exactly_one_of(object, {&PyTuple_Type})) return keys_of(py::elements(object), builder);
  if (is_exactly_one_of(object, {&PyList_Type})) {
    return tagged("list", {keys_of(py::elements(object), builder)});
  }
  if (is_exactly_one_of(object, {&PySet_Type, &PyFrozenSet_Type})) {  // in their order
    return tagged("set", {nb::borrow(object.type()), keys_of(py::elements(object), builder)});
  }
  if (is_exactly_one_of(object, {&PyDict_Type})) {
    return tagged("dict", {items_key(py::dict_items(object), builder)});
  }
  if (is_exactly_one_of(object, {&PyFunction_Type})) return function_key(object, builder);
  if (is_exactly_one_of(object, {&PyCFunction_Type})) {
    return py::is_free_builtin(object) ? nb::borrow(object) : nb::object();
  }
  if (is_exactly_one_of(object, {&PyMethod_Type})) {
    return tagged("method", {key_of(py::get(object, nb::str("__func__")), builder),
                             key_of(py::get(object, upstream::names().self_dunder), builder)});
  }
  const nb::object type = nb::borrow(object.type());  // held: hashing may change the object's
  if (type.is(f.partial)) {
    return tagged("partial",
                  {key_of(py::get(object, upstream::names().func), builder),
                   key_of(py::get(object, upstream::names().args), builder),
                   items_key(py::dict_items(py::get(object, nb::str("keywords"))), builder)});
  }
  if (type.is(f.frozen_dict))
    return key_of_keywords(nb::cast<nb::dict>(upstream::level_dict(object)), builder);
  if (type.is(f.partition_spec) || py::is_subtype(type, f.numpy_dtype)) {
    return nb::make_tuple(type, object);
  }
  if (py::is_subtype(type, f.enum_type)) return by_id(object, builder);
  if (type.is(f.jit_function) || type.is(f.custom_jvp) || type.is(f.custom_vjp) ||
      type.is(f.ufunc)) {
    return identity(object, builder);
  }
  if (py::is_subtype(type, f.linen_module)) return linen_module_key(object, builder);
  if (builder.unknown == Unknown::kRefuse) return {};
  const auto* layout = reinterpret_cast<PyTypeObject*>(type.ptr());
  if (layout->tp_base == &PyTuple_Type && layout->tp_dictoffset == 0) {  // a named tuple
    return tagged("tuple", {identity(type, builder), keys_of(py::elements(object), builder)});
  }
  if (upstream::kind_of(object) != upstream::NodeKind::kLeaf) return {};
  return unknown_key(object, builder);
}

}  // namespace

nb::object static_key(nb::handle object, Unknown unknown) {
  KeyBuilder builder{unknown};
  return key_of(object, builder);
}

std::vector<nb::object> known_by_identity(nb::handle object) {
  std::vector<nb::object> found;
  KeyBuilder builder{Unknown::kByIdentity, &found};
  key_of(object, builder);
  return found;
}

nb::object static_key_of_keywords(const nb::dict& keywords, Unknown unknown) {
  KeyBuilder builder{unknown};
  return key_of_keywords(keywords, builder);
}

nb::object trace_context_key() {
  // Asked for all the time, and nearly always the same: comparing is cheaper than
  // hashing, which runs Python code of the enums inside.
  nb::object context = upstream::facade().trace_context();
  // Copies: comparing may run code, in which another thread may replace what is kept.
  const nb::object last = memory().context;
  nb::object last_key = memory().context_key;
  if (last.is_valid() && py::equal(last, context)) return last_key;
  nb::object key = upstream::interned(context);
  // What they were dies when both are new: its destructor may ask for the key.
  const nb::object dying = std::exchange(memory().context, std::move(context));
  const nb::object dying_key = std::exchange(memory().context_key, key);
  return key;
}

void forget_keys() {
  // What the entries own dies after the tables are empty: destructors may call us.
  const auto functions = std::exchange(memory().functions, {});
  upstream::forget_interned();
  const nb::object context = std::exchange(memory().context, {});
  const nb::object context_key = std::exchange(memory().context_key, {});
}

}  // namespace nnx_wrappers::graph
