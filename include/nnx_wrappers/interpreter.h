// Python inside a C++ program. Only a program with a main() of its own needs this:
// code that Python runs, such as an extension module, has an interpreter already.
//
//   int main(int argc, char** argv) {
//     nnx_wrappers::Interpreter python({.executable = "/opt/venv/bin/python"});
//     nnx_wrappers::ToNNX model(...);
//   }
//
// It also sets up nanobind for this binary, which otherwise only an extension
// module does; without it the first call of the library crashes. So the header is
// no part of nnx_wrappers.h: the program must link libpython, as the CMake target
// nnx_wrappers::nnx_wrappers does.
//
// Ownership: the Interpreter owns Python. Every nb::object must be gone before it,
// so declare it first in main and keep nothing of Python in globals; an nb::object
// that outlives it crashes. Destructors of nb::object need the GIL.
//
// Threads: the thread that makes the Interpreter holds the GIL from then on, and
// must hold it when the Interpreter dies, in the same thread. Another thread enters
// Python with nb::gil_scoped_acquire, and gets in while the first waits under
// nb::gil_scoped_release. All threads must have left Python before the end.
#pragma once

#include <string>
#include <vector>

namespace nnx_wrappers {

struct InterpreterOptions {
  // The Python whose packages the program sees, best the bin/python of the virtual
  // environment that has nnx_wrappers: the version that the library was built for.
  // Empty: the `python3` that PATH finds, so that of an active environment.
  std::string executable = {};

  // sys.argv, the program's name first. Empty: the list [''].
  std::vector<std::string> arguments = {};
};

class Interpreter {
 public:
  // Starts Python. At most once in a process, since neither the library nor JAX can
  // start anew: throws std::logic_error for a second one, or where Python runs
  // already. Throws std::runtime_error with Python's own words if it does not start.
  explicit Interpreter(const InterpreterOptions& options = {});

  // finish(), its result dropped.
  ~Interpreter();

  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // Ends Python now: runs its atexit functions, flushes its streams, frees what it
  // can. Returns false if output could not be flushed. Does nothing when repeated.
  bool finish();

 private:
  bool running_ = false;
};

}  // namespace nnx_wrappers
