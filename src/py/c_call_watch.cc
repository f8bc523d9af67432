#include "py/c_call_watch.h"

#include "py/object.h"

namespace nnx_wrappers::py {

namespace {

thread_local CCallWatch* watch_of_thread = nullptr;

}  // namespace

struct CCallEvents {
  static void notify(nb::handle callable, nb::handle owner) {
    if (watch_of_thread != nullptr) watch_of_thread->callback_(callable, owner);
  }

#if PY_VERSION_HEX < 0x030c0000

  static int on_profile_event(PyObject* argument, PyFrameObject* frame, int what,
                              PyObject* subject) {
    const CCallWatch* watch = watch_of_thread;
    if (watch == nullptr) return 0;
    if (what == PyTrace_C_CALL && PyCFunction_Check(subject)) {
      notify(subject, PyCFunction_GetSelf(subject));
    }
    return watch->previous_function_ == nullptr
               ? 0
               : watch->previous_function_(argument, frame, what, subject);
  }

  static void set(Py_tracefunc function, nb::handle argument) {
    PyThreadState* thread = PyThreadState_Get();
    PyObject* old = thread->c_profileobj;
    thread->c_profilefunc = function;
    thread->c_profileobj = argument.inc_ref().ptr();
    const bool traces = function != nullptr || thread->c_tracefunc != nullptr;
    thread->cframe->use_tracing = traces && thread->tracing == 0 ? 255 : 0;
    Py_XDECREF(old);
  }

#else

  static PyObject* on_call(PyObject* /*unused*/, PyObject* const* args, Py_ssize_t count) {
    // The arguments are code, offset, callable, and its first argument or sys.monitoring.MISSING.
    if (count == 4 && PyFunction_Check(args[2]) == 0) {
      PyObject* owner = nullptr;
      if (PyCFunction_Check(args[2])) {
        owner = PyCFunction_GetSelf(args[2]);
      } else if (Py_IS_TYPE(args[2], &PyMethodDescr_Type)) {
        owner = args[3];
      }
      notify(args[2], owner);
    }
    return Py_NewRef(Py_None);
  }

#endif
};

#if PY_VERSION_HEX < 0x030c0000

CCallWatch::CCallWatch(Callback callback) : callback_(callback) {
  const PyThreadState* thread = PyThreadState_Get();
  previous_function_ = thread->c_profilefunc;
  previous_argument_ = nb::borrow(thread->c_profileobj);
  watch_of_thread = this;
}

CCallWatch::~CCallWatch() {
  set_active(false);
  watch_of_thread = nullptr;
}

void CCallWatch::watch(nb::handle /*code*/) {}

void CCallWatch::set_active(bool active) {
  if (is_installed_ == active || !reason_incomplete_.empty()) return;
  const Py_tracefunc expected = is_installed_ ? CCallEvents::on_profile_event : previous_function_;
  if (PyThreadState_Get()->c_profilefunc != expected) {  // user code has set one, which stays
    reason_incomplete_ = "it sets a profile function";
    return;
  }
  CCallEvents::set(active ? CCallEvents::on_profile_event : previous_function_, previous_argument_);
  is_installed_ = active;
}

#else

namespace {

PyMethodDef definition = {
    "on_call", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(CCallEvents::on_call)),
    METH_FASTCALL, nullptr};

}  // namespace

CCallWatch::CCallWatch(Callback callback) : callback_(callback), tool_("CALL", definition) {
  if (!tool_.has_id()) {
    reason_incomplete_ = "every tool id of sys.monitoring is in use";
    return;
  }
  watch_of_thread = this;
}

CCallWatch::~CCallWatch() { watch_of_thread = nullptr; }

void CCallWatch::watch(nb::handle code) { tool_.watch(code); }

void CCallWatch::set_active(bool /*it_is*/) {}

#endif

}  // namespace nnx_wrappers::py
