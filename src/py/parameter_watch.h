// Finds out whether a function reads one of its arguments. If it does not, it does the same with
// every other one.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <optional>
#include <set>

#include "py/monitoring_tool.h"

namespace nnx_wrappers::py {

namespace nb = nanobind;

// From Python 3.12 on a tool of sys.monitoring, which sees each instruction of the function. On
// Python 3.11, and for what is no plain Python function, nothing is known.
class ParameterWatch {
 public:
  // Watches the calls of `function` by this thread, which pass the argument by `position`. A thread
  // can have only one watch at a time.
  ParameterWatch(nb::handle function, size_t position);
#if PY_VERSION_HEX >= 0x030c0000
  ~ParameterWatch();
#else
  ~ParameterWatch() = default;
#endif
  ParameterWatch(const ParameterWatch&) = delete;
  ParameterWatch& operator=(const ParameterWatch&) = delete;

  // False if nothing will be known.
  bool is_watching() const;

  // True if the function has run and has not read the argument. It may have done so by a frame
  // object, or by a builtin such as `locals`.
  bool is_unread() const;

#if PY_VERSION_HEX >= 0x030c0000

 private:
  friend struct InstructionEvents;

  size_t position_;
  nb::object code_;  // invalid if the function cannot be watched
  std::optional<MonitoringTool> tool_;
  std::set<size_t> offsets_;  // of the instructions that ran
#endif
};

}  // namespace nnx_wrappers::py
