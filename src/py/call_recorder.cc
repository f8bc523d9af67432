#include "py/call_recorder.h"

#include <atomic>

#include "py/interpreter_internals.h"
#include "py/recursion.h"

namespace nnx_wrappers::py {

namespace {

thread_local CallRecorder* recorder_of_thread = nullptr;

// An error that is on its way, kept aside: a generator that is told to raise has one.
class PendingError {
 public:
  PendingError() { PyErr_Fetch(&type_, &value_, &traceback_); }
  ~PendingError() { PyErr_Restore(type_, value_, traceback_); }
  PendingError(const PendingError&) = delete;
  PendingError& operator=(const PendingError&) = delete;

 private:
  PyObject* type_ = nullptr;
  PyObject* value_ = nullptr;
  PyObject* traceback_ = nullptr;
};

}  // namespace

nb::handle RunningFunction::code() const {
#if PY_VERSION_HEX >= 0x030d0000
  return frame_->f_executable;
#else
  return reinterpret_cast<PyObject*>(frame_->f_code);
#endif
}

nb::handle RunningFunction::globals() const { return frame_->f_globals; }

nb::handle RunningFunction::builtins() const { return frame_->f_builtins; }

std::vector<nb::object> RunningFunction::locals() const {
  const int count = reinterpret_cast<PyCodeObject*>(code().ptr())->co_nlocalsplus;
  std::vector<nb::object> values;
  for (int i = 0; i < count; ++i) {
    PyObject* value = frame_->localsplus[i];
    if (value != nullptr && PyCell_Check(value)) value = PyCell_GET(value);
    if (value != nullptr) values.push_back(nb::borrow(value));
  }
  return values;
}

namespace {

// Under the GIL, of all threads: how many record, and the evaluation function that was there.
int recorders = 0;
int given_up = 0;
_PyFrameEvalFunction others = nullptr;

}  // namespace

// The evaluation function of the interpreter while any thread records.
struct FrameEvents {
  static void start() {
    if (recorders++ != 0) return;
    PyInterpreterState* interpreter = PyInterpreterState_Get();
    others = _PyInterpreterState_GetEvalFrameFunc(interpreter);
    _PyInterpreterState_SetEvalFrameFunc(interpreter, evaluate);
  }

  static void stop() {
    if (--recorders != 0) return;
    PyInterpreterState* interpreter = PyInterpreterState_Get();
    if (_PyInterpreterState_GetEvalFrameFunc(interpreter) != evaluate) return;  // somebody's own
    _PyInterpreterState_SetEvalFrameFunc(interpreter, others);
  }

  static PyObject* evaluate(PyThreadState* thread, _PyInterpreterFrame* frame, int throws) {
    CallRecorder* recorder = recorder_of_thread;
    // What a profile or trace function of Python runs is not part of the program.
    if (recorder == nullptr || thread->tracing != 0) return others(thread, frame, throws);
    if (is_stack_low()) {
      // Each frame takes a part of the C stack here, which it does not without us.
      ++given_up;
      _PyInterpreterState_SetEvalFrameFunc(thread->interp, others);
      return others(thread, frame, throws);
    }
    const CallRecorder::Current caller = recorder->current_;
    const CallRecorder::Current current = recorder->enter(frame);
    recorder->make_current(current);
    PyObject* result = others(thread, frame, throws);
    // It may be over: a generator outlives it.
    if (recorder_of_thread == recorder) recorder->make_current(caller);
    return result;
  }
};

CallRecorder::CallRecorder(CallObserver& observer)
    : observer_(observer), c_calls_(on_c_call), given_up_before_(given_up) {
  recorder_of_thread = this;
  FrameEvents::start();
}

CallRecorder::~CallRecorder() {
  FrameEvents::stop();
  recorder_of_thread = nullptr;
}

std::string CallRecorder::check() const {
  if (failure_) std::rethrow_exception(failure_);
  return given_up == given_up_before_ ? c_calls_.incomplete()
                                      : "it recurses too deep to be watched";
}

bool CallRecorder::is_recording() { return recorder_of_thread != nullptr; }

bool CallRecorder::is_possible() { return PY_VERSION_HEX < 0x030e0000; }

template <typename Tell>
void CallRecorder::tell(const Tell& tell) {
  if (failure_) return;
  const PendingError pending;
  try {
    tell();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

CallRecorder::Current CallRecorder::enter(_PyInterpreterFrame* frame) {
  Current current{frame};
  const RunningFunction function(frame);
  const nb::handle code = function.code();
  const auto known = codes_.find(code.ptr());
  if (known == codes_.end()) {
    tell([&] {
      current.origin = observer_.origin_of(function);
      codes_.emplace(code.ptr(), Code{nb::borrow(code), current.origin});
      if (current.origin != Origin::kLibrary) c_calls_.watch(code);
    });
  } else {
    current.origin = known->second.origin;
  }
  current.is_beside = current_.is_beside || current.origin == Origin::kBeside;
  current.is_watched =
      !current.is_beside && (current.origin == Origin::kUser ||
                             (current.origin == Origin::kStandard && current_.is_watched));
  if (current.is_watched) {
    tell([&] { observer_.on_function(function, current.origin); });
  }
  return current;
}

void CallRecorder::make_current(const Current& current) {
  current_ = current;
  c_calls_.watched_runs(current.is_watched);
}

void CallRecorder::on_c_call(nb::handle callable, nb::handle owner) {
  CallRecorder* recorder = recorder_of_thread;
  if (recorder == nullptr || !recorder->current_.is_watched) return;
  recorder->tell([&] {
    const Current& by = recorder->current_;
    recorder->observer_.on_c_function(callable, owner, RunningFunction(by.frame), by.origin);
  });
}

}  // namespace nnx_wrappers::py
