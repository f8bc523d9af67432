"""The ways in which a layer is used through ToLinen. Each gives a result to compare."""

import functools
import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from flax.core import DenyList, freeze

from ..compare import Bridge, outcome
from .case import INIT_KEYS, Case

Mode = tp.Callable[[Bridge, Case], tp.Any]

_DROPOUT = {"dropout": jax.random.key(7)}
_KEYS = {"params": jax.random.key(5), "dropout": jax.random.key(6)}


@functools.cache
def variables_of(case: Case) -> tp.Any:
    """Variables as Flax's own bridge makes them: what both sides are given."""
    return case.init(nnx.bridge)


def apply(bridge: Bridge, case: Case, variables: tp.Any = None, **options: tp.Any) -> tp.Any:
    """`apply` of the wrapper on these variables, by default those from `init`."""
    variables = variables_of(case) if variables is None else variables
    return case.wrap(bridge).apply(variables, *case.inputs, **case.call_options, **options)


def _abstract(tree: tp.Any) -> tp.Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def init(bridge: Bridge, case: Case) -> tp.Any:
    return case.init(bridge)


def init_with_output(bridge: Bridge, case: Case) -> tp.Any:
    return case.wrap(bridge).init_with_output(INIT_KEYS, *case.inputs, **case.call_options)


def init_params_only(bridge: Bridge, case: Case) -> tp.Any:
    key = jax.random.key(0)
    return case.wrap(bridge).init_with_output(key, *case.inputs, **case.call_options)


def init_default_stream(bridge: Bridge, case: Case) -> tp.Any:
    keys = {"default": jax.random.key(0)}
    return case.wrap(bridge).init_with_output(keys, *case.inputs, **case.call_options)


def init_without_boxes(bridge: Bridge, case: Case) -> tp.Any:
    wrapped = case.wrap(bridge, metadata_fn=None)
    variables = wrapped.init(INIT_KEYS, *case.inputs, **case.call_options)
    return variables, wrapped.apply(variables, *case.inputs, **case.call_options, mutable=True)


def init_jit(bridge: Bridge, case: Case) -> tp.Any:
    def run(keys: tp.Any, *inputs: tp.Any) -> tp.Any:
        return case.wrap(bridge).init_with_output(keys, *inputs, **case.call_options)

    return jax.jit(run)(INIT_KEYS, *case.inputs)


def init_eval_shape(bridge: Bridge, case: Case) -> tp.Any:
    run = functools.partial(case.wrap(bridge).init_with_output, **case.call_options)
    return jax.eval_shape(run, INIT_KEYS, *case.inputs)


def apply_plain(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case)


def apply_frozen(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, freeze(variables_of(case)), mutable=True)


def apply_unboxed(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, nn.meta.unbox(variables_of(case)), mutable=True)


def apply_boxed(bridge: Bridge, case: Case) -> tp.Any:
    def box(leaf: jax.Array) -> nn.Partitioned:
        return nn.Partitioned(leaf, names=(None,) * leaf.ndim)

    return apply(bridge, case, jax.tree.map(box, nn.meta.unbox(variables_of(case))), mutable=True)


def apply_own(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, case.init(bridge), mutable=True)


def apply_dropout(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, rngs=_DROPOUT)


def apply_params_and_dropout(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, rngs=_KEYS)


def apply_every_stream(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, rngs=INIT_KEYS, mutable=True)


def apply_one_key(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, rngs=jax.random.key(5))


def second_step(bridge: Bridge, case: Case) -> tp.Any:
    variables = variables_of(case)
    out, updates = apply(bridge, case, variables, rngs=_DROPOUT, mutable=True)
    return out, apply(bridge, case, {**variables, **updates}, rngs=_DROPOUT, mutable=True)


def missing_collection(bridge: Bridge, case: Case) -> tp.Any:
    variables = variables_of(case)
    results = {}
    for name in variables:
        rest = {other: tree for other, tree in variables.items() if other != name}
        for mutable in (False, True):
            results[name, mutable] = outcome(apply, bridge, case, rest, mutable=mutable)
    return results


def missing_leaf(bridge: Bridge, case: Case) -> tp.Any:
    variables = variables_of(case)
    results = {}
    for collection, tree in variables.items():
        for name in tree:
            rest = {other: leaf for other, leaf in tree.items() if other != name}
            variables_left = {**variables, collection: rest}
            results[collection, name] = outcome(apply, bridge, case, variables_left, mutable=True)
    return results


def no_variables(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, {}, mutable=True), apply(bridge, case, {}, rngs=_KEYS)


def _collections(case: Case) -> list[str]:
    return sorted(variables_of(case)) or ["params"]


def mutable_true(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable=True)


def mutable_name(bridge: Bridge, case: Case) -> tp.Any:
    return [apply(bridge, case, mutable=name) for name in _collections(case)]


def mutable_other_name(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable="absent")


def mutable_list(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable=[*_collections(case), "intermediates"])


def mutable_empty(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable=[])


def mutable_set(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable={"batch_stats", "MetricState"})


def mutable_deny_name(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable=DenyList(_collections(case)[0]))


def mutable_deny_list(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable=DenyList(["params", "cache"]))


def mutable_deny_nothing(bridge: Bridge, case: Case) -> tp.Any:
    return apply(bridge, case, mutable=DenyList(False))


def apply_jit(bridge: Bridge, case: Case) -> tp.Any:
    def run(variables: tp.Any, keys: tp.Any, *inputs: tp.Any) -> tp.Any:
        wrapped = case.wrap(bridge)
        return wrapped.apply(variables, *inputs, rngs=keys, mutable=True, **case.call_options)

    return jax.jit(run)(variables_of(case), _KEYS, *case.inputs)


def apply_eval_shape(bridge: Bridge, case: Case) -> tp.Any:
    run = functools.partial(case.wrap(bridge).apply, mutable=True, **case.call_options)
    return jax.eval_shape(run, _abstract(variables_of(case)), *_abstract(case.inputs))


def _loss(bridge: Bridge, case: Case, variables: tp.Any) -> jax.Array:
    total = jnp.float32(0)
    for leaf in jax.tree.leaves(apply(bridge, case, variables, rngs=_DROPOUT)):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            total += jnp.sum(jnp.square(jnp.abs(leaf))).astype(jnp.float32)
    return total


def grad(bridge: Bridge, case: Case) -> tp.Any:
    loss = functools.partial(_loss, bridge, case)
    return jax.value_and_grad(loss, allow_int=True)(variables_of(case))


class _Compact(nn.Module):
    bridge: Bridge
    case: Case

    @nn.compact
    def __call__(self, *inputs: tp.Any) -> tp.Any:
        options = self.case.call_options
        first = self.case.wrap(self.bridge)(*inputs, **options)
        return first, self.case.wrap(self.bridge, name="second")(*inputs, **options)


class _Setup(nn.Module):
    bridge: Bridge
    case: Case

    def setup(self) -> None:
        self.layer = self.case.wrap(self.bridge)
        self.layers = [self.case.wrap(self.bridge)]

    def __call__(self, *inputs: tp.Any) -> tp.Any:
        options = self.case.call_options
        return self.layer(*inputs, **options), self.layers[0](*inputs, **options)


def _nested(outer: type[nn.Module], bridge: Bridge, case: Case) -> tp.Any:
    module = outer(bridge, case)
    out, variables = module.init_with_output(INIT_KEYS, *case.inputs)
    again = module.apply(variables, *case.inputs, rngs=_DROPOUT, mutable=True)
    return out, variables, again


def nested_compact(bridge: Bridge, case: Case) -> tp.Any:
    return _nested(_Compact, bridge, case)


def nested_setup(bridge: Bridge, case: Case) -> tp.Any:
    return _nested(_Setup, bridge, case)


def _both(wrapped: nn.Module, case: Case) -> tp.Any:
    options = case.call_options
    out, variables = wrapped.init_with_output(INIT_KEYS, *case.inputs, **options)
    return out, variables, wrapped.apply(variables, *case.inputs, mutable=True, **options)


def to_linen(bridge: Bridge, case: Case) -> tp.Any:
    wrapped = bridge.to_linen(
        case.nnx_class, *case.new_args(), skip_rng=case.skip_rng, name="layer", **case.kwargs
    )
    return wrapped.name, _both(wrapped, case)


def to_linen_class(bridge: Bridge, case: Case) -> tp.Any:
    """Flax's class works only when subclassed, so its numbers are those of ToLinen."""
    if bridge is nnx.bridge:
        return _both(case.wrap(bridge), case)
    wrapper = bridge.to_linen_class(case.nnx_class, base_skip_rng=case.skip_rng, **case.kwargs)
    return _both(wrapper(args=case.new_args()), case)


def to_linen_subclass(bridge: Bridge, case: Case) -> tp.Any:
    make = nnx.bridge.wrappers.to_linen_class if bridge is nnx.bridge else bridge.to_linen_class

    class Layer(make(case.nnx_class, base_skip_rng=case.skip_rng)):
        pass

    return _both(Layer(args=case.new_args(), **case.kwargs), case)


MODES: tuple[Mode, ...] = (
    init,
    init_with_output,
    init_params_only,
    init_default_stream,
    init_without_boxes,
    init_jit,
    init_eval_shape,
    apply_plain,
    apply_frozen,
    apply_unboxed,
    apply_boxed,
    apply_own,
    apply_dropout,
    apply_params_and_dropout,
    apply_every_stream,
    apply_one_key,
    second_step,
    missing_collection,
    missing_leaf,
    no_variables,
    mutable_true,
    mutable_name,
    mutable_other_name,
    mutable_list,
    mutable_empty,
    mutable_set,
    mutable_deny_name,
    mutable_deny_list,
    mutable_deny_nothing,
    apply_jit,
    apply_eval_shape,
    grad,
    nested_compact,
    nested_setup,
    to_linen,
    to_linen_class,
    to_linen_subclass,
)
