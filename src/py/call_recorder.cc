#include "py/call_recorder.h"

#include <atomic>

#include "py/interpreter_internals.h"
#include "py/recursion.h"

namespace nnx_wrappers::py {

namespace {

thread_local CallRecorder* recorder_of_thread = nullptr;

// Sets the pending Python error aside while it lives: a generator into which an error is thrown
// begins with one.
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

// Shared by all threads, and read and written under the GIL.
int active_recorders = 0;
int stack_exhaustions = 0;  // how often recording ended because the C stack was nearly used up
_PyFrameEvalFunction previous_evaluator = nullptr;  // the one that recording replaced

}  // namespace

// The frame evaluation function that the interpreter has while any thread records.
struct FrameEvents {
  static void start() {
    if (active_recorders++ != 0) return;
    PyInterpreterState* interpreter = PyInterpreterState_Get();
    previous_evaluator = _PyInterpreterState_GetEvalFrameFunc(interpreter);
    _PyInterpreterState_SetEvalFrameFunc(interpreter, evaluate);
  }

  static void stop() {
    if (--active_recorders != 0) return;
    PyInterpreterState* interpreter = PyInterpreterState_Get();
    // Another tool may have set its own meanwhile, which stays.
    if (_PyInterpreterState_GetEvalFrameFunc(interpreter) != evaluate) return;
    _PyInterpreterState_SetEvalFrameFunc(interpreter, previous_evaluator);
  }

  static PyObject* evaluate(PyThreadState* thread, _PyInterpreterFrame* frame, int throws) {
    CallRecorder* recorder = recorder_of_thread;
    // A profile or trace function that is written in Python is not part of the program.
    if (recorder == nullptr || thread->tracing != 0)
      return previous_evaluator(thread, frame, throws);
    if (is_stack_low()) {
      // Only while we evaluate frames does each of them take a part of the C stack.
      ++stack_exhaustions;
      _PyInterpreterState_SetEvalFrameFunc(thread->interp, previous_evaluator);
      return previous_evaluator(thread, frame, throws);
    }
    const CallRecorder::CurrentFunction caller = recorder->current_;
    const CallRecorder::CurrentFunction current = recorder->enter(frame);
    recorder->set_current(current);
    PyObject* result = previous_evaluator(thread, frame, throws);
    // The recorder may be gone by now, since a generator can outlive it.
    if (recorder_of_thread == recorder) recorder->set_current(caller);
    return result;
  }
};

CallRecorder::CallRecorder(CallObserver& observer)
    : observer_(observer), c_calls_(on_c_call), stack_exhaustions_before_(stack_exhaustions) {
  recorder_of_thread = this;
  FrameEvents::start();
}

CallRecorder::~CallRecorder() {
  FrameEvents::stop();
  recorder_of_thread = nullptr;
}

std::string CallRecorder::reason_incomplete() const {
  if (failure_) std::rethrow_exception(failure_);
  return stack_exhaustions == stack_exhaustions_before_ ? c_calls_.reason_incomplete()
                                                        : "it recurses too deep to be watched";
}

bool CallRecorder::is_recording() { return recorder_of_thread != nullptr; }

bool CallRecorder::is_supported() { return PY_VERSION_HEX < 0x030e0000; }

template <typename Notification>
void CallRecorder::notify(const Notification& notification) {
  if (failure_) return;
  const PendingError pending;
  try {
    notification();
  } catch (...) {
    failure_ = std::current_exception();
  }
}

CallRecorder::CurrentFunction CallRecorder::enter(_PyInterpreterFrame* frame) {
  CurrentFunction current{frame};
  const RunningFunction function(frame);
  const nb::handle code = function.code();
  const auto known = codes_.find(code.ptr());
  if (known == codes_.end()) {
    notify([&] {
      current.origin = observer_.origin_of(function);
      codes_.emplace(code.ptr(), KnownCode{nb::borrow(code), current.origin, 1});
      if (current.origin != Origin::kLibrary) c_calls_.watch(code);
    });
  } else {
    current.origin = known->second.origin;
    ++known->second.runs;
  }
  current.is_tooling = current_.is_tooling || current.origin == Origin::kTooling;
  current.is_watched =
      !current.is_tooling && (current.origin == Origin::kUser ||
                              (current.origin == Origin::kStandard && current_.is_watched));
  if (current.is_watched) {
    notify([&] { observer_.on_function(function, current.origin); });
  }
  return current;
}

size_t CallRecorder::runs_of(nb::handle code) const {
  const auto known = codes_.find(code.ptr());
  return known == codes_.end() ? 0 : known->second.runs;
}

void CallRecorder::set_current(const CurrentFunction& current) {
  current_ = current;
  c_calls_.set_active(current.is_watched);
}

void CallRecorder::on_c_call(nb::handle callable, nb::handle owner) {
  CallRecorder* recorder = recorder_of_thread;
  if (recorder == nullptr || !recorder->current_.is_watched) return;
  recorder->notify([&] {
    const CurrentFunction& caller = recorder->current_;
    recorder->observer_.on_c_function(callable, owner, RunningFunction(caller.frame),
                                      caller.origin);
  });
}

}  // namespace nnx_wrappers::py
