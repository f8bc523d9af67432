#include "bridge/plan/single_trace.h"

#include <memory>
#include <utility>

#include "nnx_wrappers/errors.h"
#include "py/object.h"
#include "upstream/context_queries.h"
#include "upstream/linen.h"
#include "upstream/program.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

// JAX may keep the function that it traces. So the function owns this object, which says that the
// body, which refers to local variables of its caller, must not be called any more.
class Pending {
 public:
  Pending() : is_pending_(std::make_shared<bool>(true)) {}
  ~Pending() { *is_pending_ = false; }
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;

  const std::shared_ptr<bool>& flag() const { return is_pending_; }

 private:
  std::shared_ptr<bool> is_pending_;
};

}  // namespace

SingleTrace trace_once(const ConstructorCall& call,
                       const std::function<nb::object(const nb::args&)>& body,
                       const nb::tuple& abstract_inputs) {
  SingleTrace made;
  const Pending pending;
  const auto traced = [&body, is_pending = pending.flag()](const nb::args& inputs) {
    if (!std::exchange(*is_pending, false)) {
      throw InternalError("the trace of a constructor was run again");
    }
    return body(inputs);
  };
  const upstream::ContextQueries queries;
  try {
    // Qwix asks for the current Linen module to decide what it does to an operation of the
    // constructor. It would find an enclosing one here, so it finds an object with which it fails.
    const nb::object stand_in =
        call.interceptors.is_valid() ? nb::object(nb::bool_(true)) : upstream::stand_in_module();
    const upstream::NoLinenModule outside(stand_in);
    made.program = upstream::trace_program(nb::cpp_function(traced), abstract_inputs);
    if (upstream::has_run_modules(stand_in)) upstream::ContextQueries::note();
    const upstream::Reuse reuse = upstream::reuse_of(made.program);
    made.reason = reuse.reason_against;
    made.may_have_entered_mesh = reuse.may_have_entered_mesh;
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    made.reason = "a constructor that cannot be traced (" + py::type_name(error.type()) + ")";
  }
  if (made.reason.empty() && queries.asked())
    made.reason = "a constructor that asks about Linen's context";
  return made;
}

}  // namespace nnx_wrappers::bridge
