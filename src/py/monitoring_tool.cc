#include "py/monitoring_tool.h"

#include "py/object.h"

#if PY_VERSION_HEX >= 0x030c0000

namespace nnx_wrappers::py {

namespace {

constexpr int kIds = 6;  // the number of tool ids that sys.monitoring has

}  // namespace

MonitoringTool::MonitoringTool(const char* event, PyMethodDef& callback)
    : monitoring_(sys("monitoring")), event_(monitoring_.attr("events").attr(event)) {
  const nb::object function = nb::steal(PyCFunction_New(&callback, nullptr));
  if (!function.is_valid()) throw nb::python_error();
  for (int id = kIds - 1; id >= 0; --id) {
    const nb::int_ tool(id);
    if (!nb::object(monitoring_.attr("get_tool")(tool)).is_none()) continue;
    monitoring_.attr("use_tool_id")(tool, "nnx_wrappers");
    id_ = tool;
    break;
  }
  if (!id_.is_valid()) return;
  try {
    monitoring_.attr("register_callback")(id_, event_, function);
  } catch (...) {
    monitoring_.attr("free_tool_id")(id_);
    throw;
  }
}

MonitoringTool::~MonitoringTool() {
  if (!id_.is_valid()) return;
  const auto attempt = [](const auto& step) {
    try {
      step();
    } catch (nb::python_error& error) {
      error.discard_as_unraisable("nnx_wrappers: ending a tool of sys.monitoring");
    }
  };
  for (const nb::object& code : codes_)
    attempt([&] { monitoring_.attr("set_local_events")(id_, code, 0); });
  attempt([&] { monitoring_.attr("register_callback")(id_, event_, nb::none()); });
  attempt([&] { monitoring_.attr("free_tool_id")(id_); });
}

void MonitoringTool::watch(nb::handle code) {
  if (!id_.is_valid()) return;
  monitoring_.attr("set_local_events")(id_, code, event_);
  codes_.push_back(nb::borrow(code));
}

}  // namespace nnx_wrappers::py

#endif
