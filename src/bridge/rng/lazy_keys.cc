#include "bridge/rng/lazy_keys.h"

#include "nnx_wrappers/rngs.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/python_class.h"
#include "upstream/array.h"
#include "upstream/facade.h"
#include "upstream/features.h"
#include "upstream/leaked.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/scope.h"
#include "upstream/streams.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

nb::object promise_class() { return py::python_class("LazyKey", "nnx_wrappers._scope"); }

// A promise that is not kept: its stream may not advance in this trace.
bool is_held_back(nb::handle key) {
  if (!key.type().is(upstream::facade().lazy_rng)) return false;
  const nb::object inner = py::get(key, upstream::names().rng);
  return inner.type().is(promise_class()) && py::get(inner, upstream::names().made_in).is_none();
}

bool may_advance(nb::handle count) {
  const nb::object trace_state = upstream::trace_state_of(count);
  return !trace_state.is_valid() || upstream::is_present(trace_state);
}

// The stream's next key, not computed yet: what RngStream.__call__ will fold. Invalid where the
// stream may not advance and Flax has no key that would say so when it is asked for.
nb::object lazy_key(nb::handle stream) {
  const upstream::Names& n = upstream::names();
  const upstream::Facade& f = upstream::facade();
  if (!stream.type().is(f.rng_stream)) return stream();
  const nb::object count = py::get(stream, n.count);
  const nb::object source = py::get(stream, n.key);
  if (!count.type().is(f.rng_count) || !upstream::is_bare_variable(count)) return stream();
  if (!source.type().is(f.rng_key) || !upstream::is_bare_variable(source)) return stream();
  const nb::object key = upstream::raw_value(source);
  if (nb::len(py::get(key, n.shape)) != 0)
    return stream();  // Linen raises its own error for a batch of keys
  const nb::object now = upstream::raw_value(count);
  if (!may_advance(count)) {
    if (!f.lazy_rng.is_valid()) return {};
    return f.lazy_rng(promise_class()(key, now, nb::none()), nb::make_tuple());
  }
  if (!upstream::has(upstream::Feature::kLazyKeys)) return stream();
  // In a trace jax.numpy's dispatch takes longer than the equation that it adds.
  upstream::store_value(count, upstream::is_tracer(now)
                                   ? f.lax_add(now, py::get(now, n.dtype).attr("type")(1))
                                   : nb::object(now + nb::int_(1)));
  const nb::object promise = promise_class()(key, now, f.trace_state());
  return f.lazy_rng(promise, nb::make_tuple());
}

// The promised key; `is_kept` becomes false if it belongs to an inner trace, which it
// must not outlive.
nb::object draw(nb::handle promise, bool& is_kept) {
  const upstream::Names& n = upstream::names();
  nb::object key = py::get(promise, n.drawn);
  if (!key.is_none()) return key;
  key = upstream::facade().fold_in(py::get(promise, n.key), py::get(promise, n.count));
  const nb::object trace_state = py::get(promise, n.made_in);
  if (upstream::is_present(trace_state)) {
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
    if (!key.type().is(upstream::facade().lazy_rng)) continue;
    const nb::object inner = py::get(key, upstream::names().rng);
    if (!inner.type().is(promise_class())) continue;
    result[name] = upstream::facade().lazy_rng(draw(inner, are_kept), key.attr("suffix"));
  }
  return result;
}

}  // namespace

nb::dict lazy_keys(nb::handle rngs) {
  if (!py::is_instance(rngs, upstream::facade().rngs)) return nnx_rngs_to_linen(rngs);
  nb::dict keys;
  for (const auto& [name, stream] : upstream::streams_of(rngs)) {
    const nb::object key = lazy_key(stream);
    if (key.is_valid()) keys[name] = key;
  }
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
  nb::object given = upstream::undrawn_rngs(scope);
  if (!nb::isinstance<nb::dict>(given)) return given;  // somebody's own
  nb::dict undrawn = nb::borrow<nb::dict>(given);
  nb::dict rngs = drawn_keys(undrawn, are_kept);
  if (rngs.size() != undrawn.size()) {
    return py::python_class("HeldBackKeys", "nnx_wrappers._scope")(rngs, nb::frozenset(undrawn),
                                                                   kHeldBack);
  }
  bool is_same = true;
  for (const auto& [name, key] : py::dict_items(rngs)) {
    is_same = is_same && py::dict_get(undrawn, name).is(key);
  }
  if (is_same) return undrawn;  // so that what the user puts into it stays
  if (are_kept) py::instance_dict(scope)[upstream::names().rngs] = rngs;
  return rngs;
}

}  // namespace nnx_wrappers::bridge
