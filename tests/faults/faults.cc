// Calls into Python that fail on demand. The linker puts these functions in place of
// CPython's in everything that is linked into the extension (`--wrap`), nanobind's own code
// included, so that no call of the library gets past them. Allocations are left out: nanobind
// ends the process where it cannot make a function object.
#include <Python.h>

namespace {

long calls = 0;
long failing = 0;  // the number of the call that fails; 0: none
bool interrupts = false;
const char* failed = "";

// Only between two calls of nnx_wrappers_fault_at in one thread, which has the GIL.
bool fails(const char* name) {
  if (failing == 0 || ++calls != failing) return false;
  failed = name;
  PyErr_SetString(interrupts ? PyExc_KeyboardInterrupt : PyExc_RuntimeError, "injected fault");
  return true;
}

}  // namespace

extern "C" {

// The `number`-th call from now on fails; 0: none does. Counts anew. The error is a
// RuntimeError, or with `interrupt` a KeyboardInterrupt.
__attribute__((visibility("default"))) void nnx_wrappers_fault_at(long number, int interrupt) {
  failing = number;
  interrupts = interrupt != 0;
  calls = 0;
  failed = "";
}

// How many calls there have been since.
__attribute__((visibility("default"))) long nnx_wrappers_fault_calls() { return calls; }

// The function that failed, or "".
__attribute__((visibility("default"))) const char* nnx_wrappers_fault_name() { return failed; }

// NOLINTBEGIN(bugprone-macro-parentheses, bugprone-reserved-identifier)
#define WRAP(result, name, on_failure, parameters, arguments) \
  result __real_##name parameters;                            \
  result __wrap_##name parameters {                           \
    if (fails(#name)) return on_failure;                      \
    return __real_##name arguments;                           \
  }

WRAP(PyObject*, PyObject_GetAttr, nullptr, (PyObject * object, PyObject* name), (object, name))
WRAP(PyObject*, PyObject_GetAttrString, nullptr, (PyObject * object, const char* name),
     (object, name))
#if PY_VERSION_HEX >= 0x030D0000
WRAP(int, PyObject_GetOptionalAttr, -1, (PyObject * object, PyObject* name, PyObject** found),
     (object, name, found))
#endif
WRAP(int, PyObject_SetAttr, -1, (PyObject * object, PyObject* name, PyObject* value),
     (object, name, value))
WRAP(PyObject*, PyObject_Call, nullptr, (PyObject * function, PyObject* args, PyObject* kwargs),
     (function, args, kwargs))
WRAP(PyObject*, PyObject_Vectorcall, nullptr,
     (PyObject * function, PyObject* const* args, size_t count, PyObject* names),
     (function, args, count, names))
WRAP(PyObject*, PyObject_VectorcallMethod, nullptr,
     (PyObject * name, PyObject* const* args, size_t count, PyObject* names),
     (name, args, count, names))
WRAP(PyObject*, PyVectorcall_Call, nullptr, (PyObject * function, PyObject* args, PyObject* kwargs),
     (function, args, kwargs))
WRAP(PyObject*, PyObject_GetItem, nullptr, (PyObject * object, PyObject* key), (object, key))
WRAP(int, PyObject_SetItem, -1, (PyObject * object, PyObject* key, PyObject* value),
     (object, key, value))
WRAP(PyObject*, PyObject_GetIter, nullptr, (PyObject * object), (object))
WRAP(PyObject*, PyIter_Next, nullptr, (PyObject * iterator), (iterator))
WRAP(Py_hash_t, PyObject_Hash, -1, (PyObject * object), (object))
WRAP(int, PyObject_IsInstance, -1, (PyObject * object, PyObject* type), (object, type))
WRAP(int, PyObject_IsTrue, -1, (PyObject * object), (object))
WRAP(PyObject*, PyObject_Repr, nullptr, (PyObject * object), (object))
WRAP(PyObject*, PyObject_Str, nullptr, (PyObject * object), (object))
WRAP(int, PyObject_RichCompareBool, -1, (PyObject * left, PyObject* right, int operation),
     (left, right, operation))
WRAP(PyObject*, PyNumber_Add, nullptr, (PyObject * left, PyObject* right), (left, right))
WRAP(PyObject*, PySequence_GetItem, nullptr, (PyObject * object, Py_ssize_t index), (object, index))
WRAP(PyObject*, PySequence_List, nullptr, (PyObject * object), (object))
WRAP(PyObject*, PySequence_Tuple, nullptr, (PyObject * object), (object))
WRAP(int, PySequence_Contains, -1, (PyObject * object, PyObject* key), (object, key))
WRAP(PyObject*, PyImport_ImportModule, nullptr, (const char* name), (name))
WRAP(PyObject*, PyDict_Copy, nullptr, (PyObject * dict), (dict))
WRAP(PyObject*, PyDict_GetItemWithError, nullptr, (PyObject * dict, PyObject* key), (dict, key))
WRAP(int, PyDict_SetItem, -1, (PyObject * dict, PyObject* key, PyObject* value), (dict, key, value))
WRAP(int, PyDict_DelItem, -1, (PyObject * dict, PyObject* key), (dict, key))
WRAP(int, PyList_Append, -1, (PyObject * list, PyObject* value), (list, value))
WRAP(int, PyList_Sort, -1, (PyObject * list), (list))
WRAP(PyObject*, PyObject_GenericGetDict, nullptr, (PyObject * object, void* context),
     (object, context))
WRAP(PyObject*, PyWeakref_NewRef, nullptr, (PyObject * object, PyObject* callback),
     (object, callback))
WRAP(int, Py_EnterRecursiveCall, -1, (const char* where), (where))
// NOLINTEND(bugprone-macro-parentheses, bugprone-reserved-identifier)

}  // extern "C"
