#include "bridge/to_nnx/initializing.h"

#include <utility>

#include "graph/walk.h"
#include "upstream/pytree_state.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

void set_flag(nb::handle pytree, bool raised) {
  const nb::object state = upstream::pytree_state(pytree);
  if (state.is_valid()) upstream::set_initializing_flag(state, nb::bool_(raised));
}

}  // namespace

Initializing::Initializing(nb::handle root, std::vector<nb::object> pytrees)
    : root_(nb::borrow(root)), pytrees_(std::move(pytrees)) {
  try {
    for (const nb::object& pytree : pytrees_) set_flag(pytree, true);
  } catch (...) {
    lower();
    throw;
  }
}

void Initializing::finish() {
  for (const nb::object& pytree : pytrees_) set_flag(pytree, false);
  for (const nb::object& pytree : graph::pytrees_of(root_)) set_flag(pytree, false);
  finished_ = true;
}

Initializing::~Initializing() {
  if (!finished_) lower();
}

// Runs while an exception is passing, so it must not throw.
void Initializing::lower() {
  for (const nb::object& pytree : pytrees_) {
    try {
      set_flag(pytree, false);
    } catch (nb::python_error& error) {
      error.discard_as_unraisable("nnx_wrappers: lowering an initializing flag");
    }
  }
}

}  // namespace nnx_wrappers::bridge
