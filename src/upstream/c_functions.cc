#include "upstream/c_functions.h"

#include <algorithm>
#include <string_view>
#include <vector>

#include "py/names.h"
#include "py/object.h"
#include "upstream/origin.h"

namespace nnx_wrappers::upstream {

namespace {

// The functions of a C module that return the same at every call.
struct ModuleRule {
  std::string_view module;
  bool allows_others;  // true: all but `names`; false: `names` alone
  std::vector<std::string_view> names;
};

const std::vector<ModuleRule>& module_rules() {
  static const std::vector<ModuleRule> rules = {
      // holds no Python object
      {"builtins",
       true,
       {"next", "input", "open", "breakpoint", "__import__", "id", "hash", "aiter", "anext"}},
      {"sys", false, {"intern", "getsizeof", "audit", "exception", "is_finalizing", "displayhook"}},
      {"posix", false, {"fspath", "getpid"}},
      {"_io", false, {"text_encoding"}},
      {"_codecs", true, {}},
      {"_collections", true, {}},
      {"_functools", true, {}},
      {"_operator", true, {}},
      {"_sre", true, {}},
      {"_struct", true, {}},
      {"_json", true, {}},
      {"_weakref", true, {}},
      {"_abc", true, {}},
      {"_string", true, {}},
      {"_typing", true, {}},
      {"_warnings", true, {}},
      {"_bisect", true, {}},
      {"_heapq", true, {}},
      {"_statistics", true, {}},
      {"_ast", true, {}},
      {"_tokenize", true, {}},
      {"_locale", true, {}},
      {"_contextvars", true, {}},
      {"_imp", true, {}},
      {"_opcode", true, {}},
      {"itertools", true, {}},
      {"math", true, {}},
      {"cmath", true, {}},
      {"gc", true, {}},
      {"marshal", true, {}},
      {"unicodedata", true, {}},
      {"binascii", true, {}},
      {"zlib", true, {}},
      {"_hashlib", true, {}},
      {"_sha1", true, {}},
      {"_sha2", true, {}},
      {"_sha256", true, {}},
      {"_sha512", true, {}},
      {"_sha3", true, {}},
      {"_md5", true, {}},
      {"_blake2", true, {}},
      {"_csv", true, {}},
      {"_thread", false, {"allocate_lock", "RLock", "lock"}},
      {"atexit", true, {}}};
  return rules;
}

bool is_allowed(std::string_view module, std::string_view name, bool by_user) {
  // The standard library calls these for purposes that do not change a result: memos by id, the
  // frame of its caller.
  if (!by_user && (name == "next" || name == "id" || name == "hash" || name == "_getframe" ||
                   name == "get_ident" || name == "_getframemodulename" || name == "__import__")) {
    return true;
  }
  for (const ModuleRule& rule : module_rules()) {
    if (rule.module == module)
      return (std::ranges::find(rule.names, name) != rule.names.end()) != rule.allows_others;
  }
  const std::string_view root = top_level_package(module);
  return origin_of_module(root) == Origin::kLibrary && !module.starts_with("numpy.random") &&
         name != "fromfile";
}

// C methods are judged by the class of the object that they are bound to.
bool is_allowed_method(nb::handle owner, std::string_view name) {
  if (name == "__subclasses__" || name == "locked") return false;
  const nb::handle type = PyType_Check(owner.ptr()) ? owner : nb::handle(owner.type());
  const auto* base = py::as_type(type);
  // A class in Python has the C methods of the C class that it derives from.
  while (base->tp_base != nullptr &&
         origin_of_class(reinterpret_cast<PyObject*>(const_cast<PyTypeObject*>(base))) ==
             Origin::kUser &&
         (base->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0) {
    base = base->tp_base;
  }
  const std::string_view module =
      module_of_class(reinterpret_cast<PyObject*>(const_cast<PyTypeObject*>(base)));
  const std::string_view root = top_level_package(module);
  if (root == "_io") {
    const std::string_view file = base->tp_name;
    return file.ends_with("StringIO") || file.ends_with("BytesIO") || name == "write" ||
           name == "flush" || name == "close" || name == "isatty" || name == "fileno";
  }
  if (root == "_random" || root == "random" || root == "time" || root == "mmap" ||
      root == "socket" || root == "_socket" || root == "select" || root == "sqlite3" ||
      root == "_ctypes" || module.starts_with("numpy.random")) {
    return false;
  }
  if (root == "datetime") return name != "now" && name != "utcnow" && name != "today";
  return origin_of_module(root) != Origin::kUser;
}

}  // namespace

std::string reason_not_repeatable(nb::handle callable, nb::handle owner, bool by_user) {
  const bool is_function = PyCFunction_Check(callable.ptr()) != 0;
  const bool is_method = PyObject_TypeCheck(callable.ptr(), &PyMethodDescr_Type) != 0;
  if (!is_function && !is_method) {
    // Other callables are reported on Python 3.12 and later only.
    const std::string_view module = PyType_Check(callable.ptr()) ? module_of_class(callable) : "";
    const std::string type = PyType_Check(callable.ptr()) ? py::type_name(callable) : "";
    if (module == "_io" && type != "StringIO" && type != "BytesIO") return "it calls io." + type;
    return module.starts_with("numpy.random") ? "it calls numpy.random" : "";
  }
  const nb::object name_object = py::get(callable, py::names().name_dunder);
  const std::string_view name = text_view(name_object);
  if (owner.is_valid() && !PyModule_Check(owner.ptr())) {
    if (is_allowed_method(owner, name)) return "";
    const nb::handle type = PyType_Check(owner.ptr()) ? owner : owner.type();
    return "it calls " + py::type_name(type) + "." + std::string(name);
  }
  std::string_view module;
  nb::object module_name;
  if (is_function) {
    module_name = py::get_optional(callable, nb::str("__module__"));
    module = text_view(module_name);
  }
  if (module.empty() && owner.is_valid()) {
    module_name = py::get_optional(owner, py::names().name_dunder);
    module = text_view(module_name);
  }
  if (module == "io") module = "_io";
  if (is_allowed(module, name, by_user)) return "";
  const bool is_builtin = module == "builtins" || module == "_io" || module.empty();
  return "it calls " + (is_builtin ? "" : std::string(module) + ".") + std::string(name);
}

}  // namespace nnx_wrappers::upstream
