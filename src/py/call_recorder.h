// Records which functions run in this thread: every Python function, and every C function that a
// watched Python function calls. Profilers, debuggers and tools of sys.monitoring go on to work:
// Python functions are seen by the frame evaluation function of PEP 523, C functions as
// c_call_watch.h describes.
#pragma once

#include <nanobind/nanobind.h>

#include <exception>
#include <string>
#include <unordered_map>
#include <vector>

#include "py/c_call_watch.h"

struct _PyInterpreterFrame;

namespace nnx_wrappers::py {

namespace nb = nanobind;

// A Python function that is running.
class RunningFunction {
 public:
  explicit RunningFunction(_PyInterpreterFrame* frame) : frame_(frame) {}

  nb::handle code() const;
  nb::handle globals() const;
  nb::handle builtins() const;

  // The values of its local variables. Of a cell it is the contents.
  std::vector<nb::object> locals() const;

 private:
  _PyInterpreterFrame* frame_;
};

// Receives the calls that a CallRecorder sees. Its functions must not run user code, which waits
// for them.
class CallObserver {
 public:
  // Whose code a function is. The recorder watches the user's functions, and functions of the
  // standard library that a watched function calls. It watches nothing that tooling (logging,
  // importing, measuring) calls.
  enum class Origin { kUser, kStandard, kLibrary, kTooling };

  virtual ~CallObserver() = default;
  virtual Origin origin_of(const RunningFunction& function) = 0;

  // A watched function begins, or a watched generator resumes.
  virtual void on_function(const RunningFunction& function, Origin origin) = 0;

  // The watched function `caller`, of this origin, calls something that is no Python function.
  // `owner` is the object that a C method is bound to; invalid for other callables.
  virtual void on_c_function(nb::handle callable, nb::handle owner, const RunningFunction& caller,
                             Origin origin) = 0;
};

class CallRecorder {
 public:
  // Starts recording. A thread can have only one recorder: `is_recording` must be false.
  explicit CallRecorder(CallObserver& observer);
  ~CallRecorder();
  CallRecorder(const CallRecorder&) = delete;
  CallRecorder& operator=(const CallRecorder&) = delete;

  // Why some calls may have been missed; empty if none were. Throws what the observer threw.
  std::string reason_incomplete() const;

  // How often functions with this code have begun.
  size_t runs_of(nb::handle code) const;

  // True while this thread has a recorder.
  static bool is_recording();

  // False on versions of Python whose frames this file does not know.
  static bool is_supported();

 private:
  friend struct FrameEvents;
  using Origin = CallObserver::Origin;
  struct KnownCode {
    nb::object code;  // owned, so that no other object gets its address, which is the key
    Origin origin;
    size_t runs = 0;
  };
  struct CurrentFunction {
    _PyInterpreterFrame* frame = nullptr;
    Origin origin = Origin::kLibrary;
    bool is_watched = false;
    bool is_tooling = false;  // it is tooling, or tooling has called it
  };

  template <typename Notification>
  void notify(const Notification& notification);
  CurrentFunction enter(_PyInterpreterFrame* frame);
  void set_current(const CurrentFunction& current);
  static void on_c_call(nb::handle callable, nb::handle owner);

  CallObserver& observer_;
  CCallWatch c_calls_;
  std::unordered_map<PyObject*, KnownCode> codes_;
  CurrentFunction current_;
  std::exception_ptr failure_;  // what the observer threw
  int stack_exhaustions_before_;
};

}  // namespace nnx_wrappers::py
