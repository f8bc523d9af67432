"""The ways in which a bridged Linen module is used.

A mode is a function of a bridge and a case; its result holds whatever has to be
equal on both sides.
"""

import functools
import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from flax.core.scope import DenyList

from ..compare import Bridge
from .case import Arrays, Case

Mode = tp.Callable[[Bridge, Case], tp.Any]


def build(bridge: Bridge, case: Case, rngs: tp.Any) -> tp.Any:
    return bridge.ToNNX(case.build(), rngs=rngs)


def fresh_model(bridge: Bridge, case: Case) -> tp.Any:
    """The module with its variables, made now."""
    return build(bridge, case, case.rngs()).lazy_init(*case.first_args, **case.kwargs)


@functools.cache
def _first_model(bridge: Bridge, case: Case) -> tp.Any:
    return fresh_model(bridge, case)


def model(bridge: Bridge, case: Case) -> tp.Any:
    """A copy of the module with its variables, to use outside of traces."""
    return nnx.clone(_first_model(bridge, case))


def present(module: tp.Any) -> list[str] | bool:
    """The collections of a module that are no parameters, as a filter for `mutable`."""
    state = nnx.state(module, nnx.Not(nnx.RngState))
    names = {nnx.variable_name_from_type(type(leaf)) for _, leaf in nnx.to_flat_state(state)}
    return sorted(names - {"params"}) or False


def update(module: tp.Any, case: Case) -> tp.Any:
    """A call that may change every collection but the parameters."""
    return module(*case.args, mutable=present(module), **case.kwargs)


def size(tree: tp.Any) -> jax.Array:
    """A real number that depends on each floating value of a tree."""
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(tree)]
    squares = [jnp.abs(x) ** 2 for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact)]
    return sum((x.sum().astype(jnp.float32) for x in squares), jnp.float32(0))


# Initialization.


def lazy_init(bridge: Bridge, case: Case) -> tp.Any:
    return fresh_model(bridge, case)


def lazy_init_of_method(bridge: Bridge, case: Case) -> tp.Any:
    module = build(bridge, case, case.rngs())
    method = bridge.lazy_init(module.__call__, *case.first_args, **case.kwargs)
    return module, method == module.__call__


def lazy_init_with_key(bridge: Bridge, case: Case) -> tp.Any:
    return build(bridge, case, jax.random.key(3)).lazy_init(*case.first_args, **case.kwargs)


def lazy_init_with_default_stream(bridge: Bridge, case: Case) -> tp.Any:
    return build(bridge, case, nnx.Rngs(3)).lazy_init(*case.first_args, **case.kwargs)


def lazy_init_without_rngs(bridge: Bridge, case: Case) -> tp.Any:
    return build(bridge, case, None).lazy_init(*case.first_args, **case.kwargs)


def lazy_init_twice(bridge: Bridge, case: Case) -> tp.Any:
    return model(bridge, case).lazy_init(*case.first_args, **case.kwargs)


def call_before_lazy_init(bridge: Bridge, case: Case) -> tp.Any:
    return build(bridge, case, case.rngs())(*case.args, mutable=False, **case.kwargs)


# Calls.


def call_with_misshapen_params(bridge: Bridge, case: Case) -> tp.Any:
    module = model(bridge, case)
    for _, variable in nnx.to_flat_state(nnx.state(module, nnx.Param)):
        longer = jax.tree.map(lambda x: jnp.concatenate([x[None]] * 2), variable[...])
        variable.set_value(longer)
    return update(module, case), module


def call_twice(bridge: Bridge, case: Case) -> tp.Any:
    module = model(bridge, case)
    return update(module, case), update(module, case), module


def call_with_rngs(bridge: Bridge, case: Case) -> tp.Any:
    module, rngs = model(bridge, case), case.rngs(seed=5)
    out = module(*case.args, rngs=rngs, mutable=present(module), **case.kwargs)
    return out, module, rngs


def call_with_key(bridge: Bridge, case: Case) -> tp.Any:
    module, key = model(bridge, case), jax.random.key(5)
    return module(*case.args, rngs=key, mutable=present(module), **case.kwargs), module


def call_without_rngs(bridge: Bridge, case: Case) -> tp.Any:
    module = model(bridge, case)
    module.to_nnx__rngs = None
    return update(module, case), module


def _mutable(choose: tp.Callable[[list[str]], tp.Any]) -> Mode:
    def mode(bridge: Bridge, case: Case) -> tp.Any:
        module = model(bridge, case)
        mutable = choose(present(module) or ["params"])
        return module(*case.args, mutable=mutable, **case.kwargs), module

    return mode


# Methods.


def _method(choose: tp.Callable[[type], tp.Any]) -> Mode:
    def mode(bridge: Bridge, case: Case) -> tp.Any:
        module = model(bridge, case)
        method = choose(type(module.to_nnx__module))
        options = {"method": method, "mutable": present(module)}
        return module(*case.args, **options, **case.kwargs), module

    return mode


def _then_size(module: tp.Any, *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
    return size(module(*args, **kwargs))


def lazy_init_of_function(bridge: Bridge, case: Case) -> tp.Any:
    module = build(bridge, case, case.rngs())
    return module.lazy_init(*case.first_args, method=_then_size, **case.kwargs)


def methods_of_every_module(bridge: Bridge, case: Case) -> tp.Any:
    module = model(bridge, case)
    stream = case.streams[-1]
    asked = [
        module("params", "kernel", method="has_variable"),
        module.has_variable("params", "kernel"),
        module.is_mutable_collection("params", mutable=["params"]),
        module.has_rng(stream),
        module.make_rng(stream),
        module(stream, method=type(module.to_nnx__module).make_rng),
    ]
    return asked, module


def further_methods(bridge: Bridge, case: Case) -> tp.Any:
    """The case's own methods by name, by function and by attribute."""
    module, outs = model(bridge, case), []
    for name, args in case.methods.items():
        function = getattr(type(module.to_nnx__module), name)
        outs.append(module(*args, method=name, mutable=False))
        outs.append(module(*args, method=function, mutable=False))
        outs.append(getattr(module, name)(*args, mutable=False))
    return outs, module


def unknown_method(bridge: Bridge, case: Case) -> tp.Any:
    return model(bridge, case)(*case.args, method="no_such_method", **case.kwargs)


def unknown_attribute(bridge: Bridge, case: Case) -> tp.Any:
    return model(bridge, case).no_such_attribute


# JAX transformations, on the split module.


def jit_split_merge(bridge: Bridge, case: Case) -> tp.Any:
    graphdef, state = nnx.split(model(bridge, case))
    arrays = Arrays(case.args)

    @jax.jit
    def step(state: nnx.State, values: list[jax.Array]) -> tp.Any:
        module = nnx.merge(graphdef, state)
        out = module(*arrays.fill(values), mutable=present(module), **case.kwargs)
        return out, nnx.state(module)

    out, state = step(state, arrays.values)
    return out, state, step(state, arrays.values)


def jax_grad(bridge: Bridge, case: Case) -> tp.Any:
    graphdef, floating, rest = nnx.split(model(bridge, case), _is_floating, ...)

    def loss(floating: nnx.State) -> tp.Any:
        module = nnx.merge(graphdef, floating, rest, copy=True)
        out = update(module, case)
        return size(out), nnx.state(module)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))(floating)


def _is_floating(path: tp.Any, variable: tp.Any) -> bool:
    leaves = jax.tree.leaves(variable)
    return all(isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jnp.inexact) for x in leaves)


def jax_eval_shape(bridge: Bridge, case: Case) -> tp.Any:
    arrays, first = Arrays(case.args), Arrays(case.first_args)

    def make_and_call(key: jax.Array, before: tp.Any, values: tp.Any) -> tp.Any:
        module = build(bridge, case, nnx.Rngs(**dict.fromkeys(case.streams, key)))
        module.lazy_init(*first.fill(before), **case.kwargs)
        out = module(*arrays.fill(values), mutable=present(module), **case.kwargs)
        return out, nnx.state(module)

    return jax.eval_shape(make_and_call, jax.random.key(0), first.values, arrays.values)


# NNX transformations.


def nnx_jit(bridge: Bridge, case: Case) -> tp.Any:
    module, arrays = model(bridge, case), Arrays(case.args)

    @nnx.jit
    def step(module: tp.Any, values: list[jax.Array]) -> tp.Any:
        return module(*arrays.fill(values), mutable=present(module), **case.kwargs)

    return step(module, arrays.values), step(module, arrays.values), module


def nnx_grad(bridge: Bridge, case: Case) -> tp.Any:
    module = model(bridge, case)

    def loss(module: tp.Any) -> jax.Array:
        return size(update(module, case))

    return nnx.jit(nnx.value_and_grad(loss))(module), module


def nnx_eval_shape(bridge: Bridge, case: Case) -> tp.Any:
    def make_and_call() -> tp.Any:
        module = fresh_model(bridge, case)
        return update(module, case), module

    return nnx.eval_shape(make_and_call)


def nnx_vmap(bridge: Bridge, case: Case) -> tp.Any:
    stack, rngs = _stack(bridge, case)
    out = nnx.vmap(lambda module: update(module, case), in_axes=0, out_axes=0)(stack)
    return out, stack, rngs


def nnx_scan(bridge: Bridge, case: Case) -> tp.Any:
    stack, _ = _stack(bridge, case)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def step(count: jax.Array, module: tp.Any) -> tp.Any:
        return count + 1, update(module, case)

    return step(jnp.array(0), stack), stack


def _stack(bridge: Bridge, case: Case) -> tp.Any:
    return nnx.clone(_first_stack(bridge, case))


@functools.cache
def _first_stack(bridge: Bridge, case: Case) -> tp.Any:
    """Two modules in one, each with keys of its own, and the streams these came from."""

    @nnx.split_rngs(splits=2)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def create(rngs: nnx.Rngs) -> tp.Any:
        return build(bridge, case, rngs).lazy_init(*case.first_args, **case.kwargs)

    rngs = case.rngs()
    return create(rngs), rngs


# Inside other modules.


class Outer(nnx.Module):
    """Holds the bridged module by name and in a list."""

    def __init__(self, bridge: Bridge, case: Case, rngs: nnx.Rngs):
        self.named = build(bridge, case, rngs)
        self.listed = nnx.List([build(bridge, case, rngs)])
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, *args: tp.Any, mutable: tp.Any = None, **kwargs: tp.Any) -> tp.Any:
        both = [module(*args, mutable=mutable, **kwargs) for module in (self.named, *self.listed)]
        return both, self.scale * size(both)


def inside_a_module(bridge: Bridge, case: Case) -> tp.Any:
    outer = Outer(bridge, case, rngs := case.rngs())
    bridge.lazy_init(outer, *case.first_args, **case.kwargs)
    made = nnx.clone(outer)
    out = outer(*case.args, mutable=present(outer), **case.kwargs)
    return made, out, outer, rngs


def split_merge(bridge: Bridge, case: Case) -> tp.Any:
    module = nnx.merge(*nnx.split(model(bridge, case)))
    return update(module, case), module


class LinenHost(nn.Module):
    """Calls a bridged module inside Linen, where the scope says what is mutable."""

    inner: tp.Any

    def __call__(self, *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
        return self.inner(*args, **kwargs)


def inside_linen(bridge: Bridge, case: Case) -> tp.Any:
    module = model(bridge, case)
    mutable = present(module)
    return LinenHost(module).apply({}, *case.args, mutable=mutable, **case.kwargs), module


# Intermediates.


def _capture(which: tp.Any) -> Mode:
    def mode(bridge: Bridge, case: Case) -> tp.Any:
        module = model(bridge, case)
        options = {"mutable": ["intermediates", *(present(module) or ())], **case.kwargs}
        call = functools.partial(module, *case.args, capture_intermediates=which, **options)
        return call(), call(), module

    return mode


MODES: dict[str, Mode] = {
    mode.__name__: mode
    for mode in (
        lazy_init,
        lazy_init_of_method,
        lazy_init_of_function,
        lazy_init_with_key,
        lazy_init_with_default_stream,
        lazy_init_without_rngs,
        lazy_init_twice,
        call_before_lazy_init,
        call_twice,
        call_with_misshapen_params,
        call_with_rngs,
        call_with_key,
        call_without_rngs,
        methods_of_every_module,
        unknown_method,
        unknown_attribute,
        jit_split_merge,
        jax_grad,
        jax_eval_shape,
        nnx_jit,
        nnx_grad,
        nnx_eval_shape,
        nnx_vmap,
        nnx_scan,
        inside_a_module,
        inside_linen,
        split_merge,
    )
} | {
    "capture_intermediates": _capture(True),
    "capture_of_submodules": _capture(lambda layer, _: layer.name is not None),
    "mutable_false": _mutable(lambda names: False),
    "mutable_true": _mutable(lambda names: True),
    "mutable_name": _mutable(lambda names: names[0]),
    "mutable_list": _mutable(lambda names: [*names, "intermediates"]),
    "mutable_set": _mutable(set),
    "mutable_empty_list": _mutable(lambda names: []),
    "mutable_deny_list": _mutable(lambda names: DenyList("params")),
    "method_by_name": _method(lambda cls: "__call__"),
    "method_by_function": _method(lambda cls: cls.__call__),
    "method_outside_the_class": _method(lambda cls: _then_size),
}
