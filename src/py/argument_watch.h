// Whether a Python function looked at one of its arguments while it ran.
#pragma once

#include <nanobind/nanobind.h>

#include <memory>

namespace nnx_wrappers::py {

namespace nb = nanobind;

// Watches the calls of a Python function in this thread while it lives, line by
// line: what has not read the argument would have done the same for every other
// value. It is taken as read where that cannot be told: for other callables, for a
// variable of an inner function, next to `locals()` and the like, and under a debugger.
class ArgumentWatch {
 public:
  ArgumentWatch(nb::handle function, size_t position);
  ~ArgumentWatch();
  ArgumentWatch(const ArgumentWatch&) = delete;
  ArgumentWatch& operator=(const ArgumentWatch&) = delete;

  bool was_read() const { return *was_read_; }

 private:
  std::shared_ptr<bool> was_read_;  // the trace functions may outlive this object
  nb::object trace_;                // of sys.settrace, while it watches
};

}  // namespace nnx_wrappers::py
