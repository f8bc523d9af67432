// The keys of functions.
#include <algorithm>
#include <array>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "graph/identity_key.h"
#include "graph/key_builder.h"
#include "py/function.h"
#include "py/object.h"
#include "py/once.h"
#include "py/recursion.h"
#include "upstream/interned.h"
#include "upstream/names.h"

namespace nnx_wrappers::graph {

namespace {

// True for objects that never change and hold nothing that does.
bool is_immutable(nb::handle object) {
  const py::RecursionGuard guard(" while reading what a function closes over");
  PyObject* ptr = object.ptr();
  if (PyTuple_CheckExact(ptr)) {
    for (Py_ssize_t i = 0; i < PyTuple_Size(ptr); ++i) {
      const nb::handle item = PyTuple_GetItem(ptr, i);
      if (py::is_class(item) || !is_immutable(item)) return false;
    }
    return true;
  }
  return ptr == Py_None || py::is_class(object) || py::is_free_builtin(object) ||
         is_exactly_one_of(
             object, {&PyBool_Type, &PyLong_Type, &PyFloat_Type, &PyUnicode_Type, &PyBytes_Type});
}

// The parts that make the key of a function with a closure.
struct FunctionParts {
  std::vector<nb::object> parts;  // code, defaults, names, then the contents of its cells
  std::vector<py::Item> attributes;
  nb::object globals_id;
  bool is_complete = true;  // false if a cell is empty, since the function is being defined
  bool is_all_immutable = true;

  explicit FunctionParts(nb::handle function) {
    for (nb::handle name : named()) parts.push_back(py::get(function, name));
    for (const nb::object& cell : py::cells_of(function)) {
      parts.push_back(py::cell_contents(cell));
      is_complete = is_complete && parts.back().is_valid();
    }
    globals_id = py::id(PyFunction_GetGlobals(function.ptr()));
    attributes = py::dict_items(py::get(function, upstream::names().dict_dunder));
    is_all_immutable = attributes.empty();
    for (size_t i = 1; is_complete && i < parts.size(); ++i) {
      is_all_immutable = is_all_immutable && is_immutable(parts[i]);
    }
  }

  static constexpr int kNamed = 5;

  // The names of the function's attributes that are the first parts.
  static std::array<nb::handle, kNamed> named() {
    const upstream::Names& n = upstream::names();
    return {n.code_dunder, n.defaults_dunder, n.kwdefaults_dunder, n.name_dunder,
            n.qualname_dunder};
  }

  nb::object key(KeyBuilder& builder) const {
    if (!is_complete) return {};
    nb::object keywords = nb::make_tuple();
    if (!parts[2].is_none()) keywords = builder.items_key(py::dict_items(parts[2]));
    const std::vector<nb::object> cells(parts.begin() + kNamed, parts.end());
    // The globals tell functions of the same code apart.
    return tagged_key("function", {identity_key(parts[0]), globals_id, builder.elements_key(cells),
                                   builder.key_of(parts[1]), keywords, parts[3], parts[4],
                                   builder.items_key(attributes)});
  }
};

// A part in the form in which it is remembered: code and classes by a weak reference.
nb::object memo_form(const nb::object& part) {
  return py::is_class(part) || PyCode_Check(part.ptr()) ? weak_reference(part) : part;
}

std::vector<nb::object> memo_form(const FunctionParts& all) {
  std::vector<nb::object> kept;
  kept.reserve(all.parts.size());
  for (const nb::object& part : all.parts) kept.push_back(memo_form(part));
  return kept;
}

// True if the function still has these parts and no attributes.
bool is_made_of(nb::handle function, const std::vector<nb::object>& kept) {
  size_t next = 0;
  for (nb::handle name : FunctionParts::named()) {
    if (!memo_form(py::get(function, name)).is(kept[next++])) return false;
  }
  const std::vector<nb::object> cells = py::cells_of(function);
  if (kept.size() != next + cells.size()) return false;
  if (PyDict_Size(py::get(function, upstream::names().dict_dunder).ptr()) != 0) return false;
  for (const nb::object& cell : cells) {
    const nb::object contents = py::cell_contents(cell);
    if (!contents.is_valid() || !memo_form(contents).is(kept[next++])) return false;
  }
  return true;
}

struct KnownFunction {
  nb::object reference;  // weak
  std::vector<nb::object> parts;
  nb::object key;
};

// The keys of functions that are remembered.
using Table = std::unordered_map<PyObject*, std::shared_ptr<const KnownFunction>>;

constexpr size_t kMaxEntries = 4096;  // when the table is full, all keys are forgotten

Table& table() {
  static constinit py::Once<Table> table;  // immortal: holds Python objects
  return table.get([] { return Table(); });
}

// While it lives, the function is among those whose keys are being made.
class FunctionFrame {
 public:
  FunctionFrame(std::vector<PyObject*>& functions, nb::handle function) : functions_(functions) {
    functions_.push_back(function.ptr());
  }
  ~FunctionFrame() { functions_.pop_back(); }
  FunctionFrame(const FunctionFrame&) = delete;
  FunctionFrame& operator=(const FunctionFrame&) = delete;

 private:
  std::vector<PyObject*>& functions_;
};

}  // namespace

// The key of a function. It is remembered while the function is made of the same immutable parts.
nb::object KeyBuilder::function_key(nb::handle function) {
  if (py::get(function, upstream::names().closure_dunder).is_none()) return weak_key(function);
  const auto found_above = std::ranges::find(functions_, function.ptr());
  if (found_above != functions_.end()) {
    return tagged_key("function above", {nb::int_(found_above - functions_.begin())});
  }
  const FunctionFrame frame(functions_, function);
  Table& known = table();
  const nb::object reference = weak_reference(function);
  const auto found = known.find(function.ptr());
  // A new function at the address of a dead one has another weak reference. The entry is owned,
  // since a finalizer may call forget_keys while it is compared.
  const auto entry = found == known.end() ? nullptr : found->second;
  if (by_identity_ == nullptr && entry != nullptr && entry->reference.is(reference) &&
      is_made_of(function, entry->parts)) {
    return entry->key;
  }
  FunctionParts parts(function);
  if (!parts.is_complete || !parts.is_all_immutable) return parts.key(*this);
  nb::object key = upstream::interned(parts.key(*this));
  if (known.size() >= kMaxEntries) forget_keys();
  auto made =
      std::make_shared<const KnownFunction>(KnownFunction{reference, memo_form(parts), key});
  const auto dying = std::exchange(known[function.ptr()], std::move(made));
  return key;
}

std::shared_ptr<const void> take_function_keys() {
  return std::make_shared<const Table>(std::exchange(table(), {}));
}

}  // namespace nnx_wrappers::graph
