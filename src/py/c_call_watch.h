// Reports the C functions that a thread's watched Python functions call.
//
// On Python 3.11 this is a profile function, installed only while a watched function runs; it
// passes each event on to the profile function that it replaced. From Python 3.12 on it is a tool
// of sys.monitoring with events for the watched code objects alone.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "py/monitoring_tool.h"

namespace nnx_wrappers::py {

namespace nb = nanobind;

class CCallWatch {
 public:
  // `owner` is the object that a C method is bound to; invalid for other callables.
  using Callback = void (*)(nb::handle callable, nb::handle owner);

  // A thread can have only one watch at a time.
  explicit CCallWatch(Callback callback);
  ~CCallWatch();
  CCallWatch(const CCallWatch&) = delete;
  CCallWatch& operator=(const CCallWatch&) = delete;

  // Reports from now on what this code object calls.
  void watch(nb::handle code);

  // Says whether the function that runs now is a watched one.
  void set_active(bool active);

  // Why some calls may have been missed; empty if none were.
  const std::string& reason_incomplete() const { return reason_incomplete_; }

 private:
  friend struct CCallEvents;

  Callback callback_;
  std::string reason_incomplete_;
#if PY_VERSION_HEX < 0x030c0000
  Py_tracefunc previous_function_ = nullptr;  // the profile function that this one replaces
  nb::object previous_argument_;
  bool is_installed_ = false;
#else
  MonitoringTool tool_;
#endif
};

}  // namespace nnx_wrappers::py
