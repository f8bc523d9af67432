#include "bridge/put_off_keys.h"

#include "bridge/shells.h"
#include "flax/array.h"
#include "flax/facade.h"
#include "flax/left_behind.h"
#include "flax/linen.h"
#include "flax/scope.h"
#include "flax/streams.h"
#include "flax/variable.h"
#include "nnx_wrappers/rngs.h"
#include "py/containers.h"
#include "py/names.h"
#include "py/object.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

nb::object promise_class() { return shell("PutOffKey", "nnx_wrappers._scope"); }

// A promise that is not kept: its stream may not advance in this trace.
bool is_held_back(nb::handle key) {
  if (!key.type().is(flax::facade().lazy_rng)) return false;
  const nb::object inner = py::get(key, py::names().rng);
  return inner.type().is(promise_class()) && py::get(inner, py::names().made_in).is_none();
}

bool may_advance(nb::handle count) {
  const nb::object trace_state = flax::trace_state_of(count);
  return !trace_state.is_valid() || flax::is_present(trace_state);
}

// The stream's next key, not computed yet: what RngStream.__call__ will fold.
nb::object put_off(nb::handle stream) {
  const py::Names& n = py::names();
  const flax::Facade& f = flax::facade();
  if (!stream.type().is(f.rng_stream)) return stream();
  const nb::object count = py::get(stream, n.count);
  const nb::object source = py::get(stream, n.key);
  if (!count.type().is(f.rng_count) || !flax::is_bare_variable(count)) return stream();
  if (!source.type().is(f.rng_key) || !flax::is_bare_variable(source)) return stream();
  const nb::object key = flax::raw_value(source);
  if (nb::len(py::get(key, n.shape)) != 0) return stream();  // Linen has words for it
  const nb::object now = flax::raw_value(count);
  if (!may_advance(count)) {
    return f.lazy_rng(promise_class()(key, now, nb::none()), nb::make_tuple());
  }
  // In a trace jax.numpy's dispatch takes longer than the equation that it adds.
  flax::store_value(count, flax::is_tracer(now)
                               ? f.lax_add(now, py::get(now, n.dtype).attr("type")(1))
                               : nb::object(now + nb::int_(1)));
  const nb::object promise = promise_class()(key, now, f.trace_state());
  return f.lazy_rng(promise, nb::make_tuple());
}

// The promised key; `is_kept` becomes false if it belongs to an inner trace, which it
// must not outlive.
nb::object draw(nb::handle promise, bool& is_kept) {
  const py::Names& n = py::names();
  nb::object key = py::get(promise, n.drawn);
  if (!key.is_none()) return key;
  key = flax::facade().fold_in(py::get(promise, n.key), py::get(promise, n.count));
  const nb::object trace_state = py::get(promise, n.made_in);
  if (flax::is_present(trace_state)) {
    py::set(promise, n.drawn, key);
  } else {
    is_kept = false;
  }
  return key;
}

nb::dict drawn_keys(const nb::dict& keys, bool& are_kept) {
  nb::dict result;
  for (const auto& [name, key] : py::dict_items(keys)) {
    if (is_held_back(key)) continue;
    result[name] = key;
    if (!key.type().is(flax::facade().lazy_rng)) continue;
    const nb::object inner = py::get(key, py::names().rng);
    if (!inner.type().is(promise_class())) continue;
    result[name] = flax::facade().lazy_rng(draw(inner, are_kept), key.attr("suffix"));
  }
  return result;
}

}  // namespace

nb::dict put_off_keys(nb::handle rngs) {
  if (!py::is_instance(rngs, flax::facade().rngs)) return nnx_rngs_to_linen(rngs);
  nb::dict keys;
  for (const auto& [name, stream] : flax::streams_of(rngs)) keys[name] = put_off(stream);
  return nnx_rngs_to_linen(keys);
}

nb::dict drawn(const nb::dict& keys) {
  bool are_kept = true;
  return drawn_keys(keys, are_kept);
}

bool holds_back(const nb::dict& keys) {
  for (const auto& item : py::dict_items(keys)) {
    if (is_held_back(item.second)) return true;
  }
  return false;
}

nb::object scope_rngs(nb::handle scope) {
  bool are_kept = true;
  nb::object given = flax::undrawn_rngs(scope);
  if (!nb::isinstance<nb::dict>(given)) return given;  // somebody's own
  nb::dict undrawn = nb::borrow<nb::dict>(given);
  nb::dict rngs = drawn_keys(undrawn, are_kept);
  if (rngs.size() != undrawn.size()) {
    return shell("HeldBackKeys", "nnx_wrappers._scope")(rngs, nb::frozenset(undrawn), kHeldBack);
  }
  bool is_same = true;
  for (const auto& [name, key] : py::dict_items(rngs)) {
    is_same = is_same && py::dict_get(undrawn, name).is(key);
  }
  if (is_same) return undrawn;  // so that what the user puts into it stays
  if (are_kept) py::instance_dict(scope)[py::names().rngs] = rngs;
  return rngs;
}

}  // namespace nnx_wrappers::bridge
