// Which functions run in this thread: each Python function, and each function of C that one of
// the watched Python functions calls. What profilers, debuggers and tools of sys.monitoring see
// stays as it is: Python functions are seen by the evaluation function of PEP 523, calls of C as
// `c_call_watch.h` says.
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

// A Python function that runs now.
class RunningFunction {
 public:
  explicit RunningFunction(_PyInterpreterFrame* frame) : frame_(frame) {}

  nb::handle code() const;
  nb::handle globals() const;
  nb::handle builtins() const;

  // The values of its variables; cells opened.
  std::vector<nb::object> locals() const;

 private:
  _PyInterpreterFrame* frame_;
};

// Told what runs, while user code waits. An observer runs no user code.
class CallObserver {
 public:
  // Whose code a function is. Watched are the user's functions, and those of the standard library
  // that a watched function calls; but nothing that runs beside the program (logging) calls.
  enum class Origin { kUser, kStandard, kLibrary, kBeside };

  virtual ~CallObserver() = default;
  virtual Origin origin_of(const RunningFunction& function) = 0;

  // A watched function begins, or a generator goes on.
  virtual void on_function(const RunningFunction& function, Origin origin) = 0;

  // A watched function calls what is no Python function. `owner` is the object that a method of C
  // is bound to, or invalid.
  virtual void on_c_function(nb::handle callable, nb::handle owner, const RunningFunction& by,
                             Origin origin) = 0;
};

class CallRecorder {
 public:
  // Starts. One at a time in a thread: `is_recording` must be false.
  explicit CallRecorder(CallObserver& observer);
  ~CallRecorder();
  CallRecorder(const CallRecorder&) = delete;
  CallRecorder& operator=(const CallRecorder&) = delete;

  // Throws what the observer threw. Returns why not everything was seen, or nothing.
  std::string check() const;

  // True while this thread has a recorder.
  static bool is_recording();

  // False on interpreters that this file does not know: then there is no recorder.
  static bool is_possible();

 private:
  friend struct FrameEvents;
  using Origin = CallObserver::Origin;
  struct Code {
    nb::object code;  // held: its address stays its own
    Origin origin;
  };
  // The function that runs.
  struct Current {
    _PyInterpreterFrame* frame = nullptr;
    Origin origin = Origin::kLibrary;
    bool is_watched = false;
    bool is_beside = false;
  };

  template <typename Tell>
  void tell(const Tell& tell);
  Current enter(_PyInterpreterFrame* frame);
  void make_current(const Current& current);
  static void on_c_call(nb::handle callable, nb::handle owner);

  CallObserver& observer_;
  CCallWatch c_calls_;
  std::unordered_map<PyObject*, Code> codes_;
  Current current_;
  std::exception_ptr failure_;
  int given_up_before_;
};

}  // namespace nnx_wrappers::py
