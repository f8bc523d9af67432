// Faults on purpose, one a function. Each must end the process with the report that
// its test expects: else the sanitizers run, and see nothing.
#include <nanobind/nanobind.h>

#include <array>
#include <atomic>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

namespace nb = nanobind;

namespace {

// The compiler does not know what is in a volatile, so it cannot do the fault away.
volatile int position = 4;
volatile int largest = std::numeric_limits<int>::max();
volatile unsigned char truth = 2;
int shared = 0;
std::atomic<int> arrived = 0;

[[gnu::noinline]] int read(const int* numbers) { return numbers[position]; }

int heap_buffer_overflow() {
  const auto numbers = std::make_unique<int[]>(4);
  return read(numbers.get());
}

int stack_buffer_overflow() {
  std::array<int, 4> numbers = {};
  return read(numbers.data());
}

int use_after_free() {
  auto numbers = std::make_unique<std::array<int, 4>>();
  const volatile int* freed = numbers->data();
  numbers.reset();
  return *freed;
}

// Seen only if Python takes its objects from malloc.
Py_ssize_t use_of_a_freed_python_object() {
  PyObject* bytes = PyBytes_FromStringAndSize("abc", 3);
  Py_DECREF(bytes);
  return Py_SIZE(bytes);
}

int signed_overflow() { return largest + 1; }

int shift_too_far() { return 1 << (position * 8); }

bool no_bool() {
  return *static_cast<bool*>(static_cast<void*>(const_cast<unsigned char*>(&truth)));
}

int past_the_end_of_a_vector() {
  std::vector<int> numbers(4);
  numbers.reserve(8);
  return numbers[static_cast<std::size_t>(position)];
}

void leak() { position = *new int(position); }

// Not a container: those stay in the list of Python's garbage collector.
void leak_of_a_python_object() {
  position = static_cast<int>(Py_SIZE(PyBytes_FromStringAndSize("abc", 3)));
}

// For two threads. They meet without the GIL, and by an atomic that orders nothing: else
// the one that came late would be ordered after the other by the GIL.
void race() {
  const nb::gil_scoped_release both_may_run;
  arrived.fetch_add(1, std::memory_order_relaxed);
  while (arrived.load(std::memory_order_relaxed) < 2) std::this_thread::yield();
  ++shared;
}

}  // namespace

NB_MODULE(_faults, module) {
  module.def("heap_buffer_overflow", &heap_buffer_overflow);
  module.def("stack_buffer_overflow", &stack_buffer_overflow);
  module.def("use_after_free", &use_after_free);
  module.def("use_of_a_freed_python_object", &use_of_a_freed_python_object);
  module.def("signed_overflow", &signed_overflow);
  module.def("shift_too_far", &shift_too_far);
  module.def("leak", &leak);
  module.def("leak_of_a_python_object", &leak_of_a_python_object);
  module.def("race", &race);
  module.def("no_bool", &no_bool);
  module.def("past_the_end_of_a_vector", &past_the_end_of_a_vector);
}
