#include "bridge/rng/lazy_keys.h"

#include "nnx_wrappers/rngs.h"
#include "py/containers.h"
#include "py/object.h"
#include "py/python_class.h"
#include "upstream/array.h"
#include "upstream/dialect/wrapper.h"
#include "upstream/facade.h"
#include "upstream/feature_set.h"
#include "upstream/leaked.h"
#include "upstream/linen.h"
#include "upstream/names.h"
#include "upstream/scope.h"
#include "upstream/streams.h"
#include "upstream/variable.h"

namespace nnx_wrappers::bridge {

namespace nb = nanobind;

namespace {

nb::object lazy_key_class() { return py::python_class("LazyKey", "nnx_wrappers._scope"); }

// True for the lazy key of a stream that may not advance in the current trace.
bool is_held_back(nb::handle key) {
  if (!key.type().is(upstream::facade().lazy_rng)) return false;
  const nb::object inner = py::get(key, upstream::names().rng);
  return inner.type().is(lazy_key_class()) && py::get(inner, upstream::names().made_in).is_none();
}

// The next key of a stream, not yet computed. The LazyKey has the arguments with which
// RngStream.__call__ calls jax.random.fold_in. Invalid where the stream may not advance and Flax
// has no key that would say so when it is asked for.
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
  if (!upstream::may_change_in_current_trace(count)) {
    if (!upstream::takes_lazy_rngs()) return {};
    return f.lazy_rng(lazy_key_class()(key, now, nb::none()), nb::make_tuple());
  }
  if (!upstream::has(upstream::Feature::kLazyKeys)) return stream();
  // jax.lax.add adds the equation to a trace faster than `+` does.
  upstream::store_value(count, upstream::is_tracer(now)
                                   ? f.lax_add(now, py::get(now, n.dtype).attr("type")(1))
                                   : nb::object(now + nb::int_(1)));
  const nb::object made = lazy_key_class()(key, now, f.trace_state());
  return f.lazy_rng(made, nb::make_tuple());
}

struct DrawnKey {
  nb::object key;
  bool may_be_kept = true;  // false for a key of an inner trace, which it must not outlive
};

// Computes the key of a LazyKey, which remembers it.
DrawnKey draw(nb::handle lazy_key) {
  const upstream::Names& n = upstream::names();
  nb::object key = py::get(lazy_key, n.drawn);
  if (!key.is_none()) return {key};
  key = upstream::facade().fold_in(py::get(lazy_key, n.key), py::get(lazy_key, n.count));
  const nb::object trace_state = py::get(lazy_key, n.made_in);
  if (!upstream::is_current_trace(trace_state)) return {key, false};
  py::set(lazy_key, n.drawn, key);
  return {key};
}

struct DrawnKeys {
  nb::dict keys;
  bool may_be_kept = true;
};

DrawnKeys draw_all(const nb::dict& keys) {
  DrawnKeys result;
  for (const auto& [name, key] : py::dict_items(keys)) {
    if (is_held_back(key)) continue;
    result.keys[name] = key;
    if (!key.type().is(upstream::facade().lazy_rng)) continue;
    const nb::object inner = py::get(key, upstream::names().rng);
    if (!inner.type().is(lazy_key_class())) continue;
    const DrawnKey drawn = draw(inner);
    result.may_be_kept = result.may_be_kept && drawn.may_be_kept;
    result.keys[name] = upstream::facade().lazy_rng(drawn.key, key.attr("suffix"));
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

nb::dict initial_keys(nb::handle rngs) {
  if (!py::is_instance(rngs, upstream::facade().rngs)) return nnx_rngs_to_linen(rngs);
  nb::dict keys;
  for (const auto& [name, stream] : upstream::streams_of(rngs)) {
    keys[name] = upstream::key_for_lazy_init(stream);
  }
  return nnx_rngs_to_linen(keys);
}

nb::dict drawn_keys(const nb::dict& keys) { return draw_all(keys).keys; }

bool has_held_back_keys(const nb::dict& keys, nb::handle rngs) {
  const bool leaves_out_streams = py::is_instance(rngs, upstream::facade().rngs) &&
                                  upstream::streams_of(rngs).size() > keys.size();
  if (leaves_out_streams) return true;
  for (const auto& item : py::dict_items(keys)) {
    if (is_held_back(item.second)) return true;
  }
  return false;
}

nb::object scope_rngs(nb::handle scope) {
  nb::object given = upstream::undrawn_rngs(scope);
  if (!nb::isinstance<nb::dict>(given)) return given;  // the user has set it
  nb::dict undrawn = nb::borrow<nb::dict>(given);
  const DrawnKeys drawn = draw_all(undrawn);
  const nb::dict& rngs = drawn.keys;
  if (rngs.size() != undrawn.size()) {
    return py::python_class("HeldBackKeys", "nnx_wrappers._scope")(rngs, nb::frozenset(undrawn),
                                                                   kHeldBackRemedy);
  }
  bool is_same = true;
  for (const auto& [name, key] : py::dict_items(rngs)) {
    is_same = is_same && py::dict_get(undrawn, name).is(key);
  }
  if (is_same) return undrawn;  // the same dict, so that keys that the user adds to it stay
  if (drawn.may_be_kept) py::instance_dict(scope)[upstream::names().rngs] = rngs;
  return rngs;
}

}  // namespace nnx_wrappers::bridge
