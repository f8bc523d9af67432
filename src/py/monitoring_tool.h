// A tool of sys.monitoring, which Python has from 3.12 on.
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

namespace nnx_wrappers::py {

namespace nb = nanobind;

#if PY_VERSION_HEX >= 0x030c0000

// Has one of the six ids while it lives, if one is free. Sees one kind of event, in the code
// objects that it is told to watch.
class MonitoringTool {
 public:
  // `event` is a name in sys.monitoring.events. Python calls `callback`, which must live as long as
  // the process, without a Python frame in between.
  MonitoringTool(const char* event, PyMethodDef& callback);
  ~MonitoringTool();
  MonitoringTool(const MonitoringTool&) = delete;
  MonitoringTool& operator=(const MonitoringTool&) = delete;

  // False if every id was in use. Then it sees nothing.
  bool has_id() const { return id_.is_valid(); }

  void watch(nb::handle code);

 private:
  nb::object monitoring_;
  nb::object event_;
  nb::object id_;
  std::vector<nb::object> codes_;
};

#endif

}  // namespace nnx_wrappers::py
