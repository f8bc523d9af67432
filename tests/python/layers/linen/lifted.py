"""Lifted transformations around inner modules of many kinds."""

import functools
import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from .case import Case, floats

X = floats(2, 4)
Make = tp.Callable[[], nn.Module]
KERNEL = nn.initializers.lecun_normal()


# Inner modules: each returns what has the shape of its input.


class Boxed(nn.Module):
    """Parameters in two kinds of boxes."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = nn.with_partitioning(KERNEL, ("in", None))
        bias = nn.with_logical_partitioning(nn.initializers.ones, ("out",))
        return nn.Dense(4, kernel_init=kernel, bias_init=bias)(x)


class Stateful(nn.Module):
    """Statistics, keys and intermediates."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(4)(x)
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.Dropout(0.5, deterministic=False)(x)
        self.sow("intermediates", "seen", x)
        return x


class InSetup(nn.Module):
    """Submodules and a parameter made in `setup`, and a second method."""

    def setup(self) -> None:
        self.first = nn.Dense(4)
        self.rest = [nn.Dense(4, use_bias=False), nn.LayerNorm()]
        self.scale = self.param("scale", nn.initializers.ones, (4,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.twice(self.first(x)) * self.scale

    def twice(self, x: jax.Array) -> jax.Array:
        for layer in self.rest:
            x = layer(x)
        return x


class Trees(nn.Module):
    """A parameter that is a pytree, and one that stays in its box."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        tree = self.param("tree", lambda key: {"a": jnp.ones(4), "b": (jnp.zeros(4),)})
        boxed = nn.with_partitioning(nn.initializers.ones, ("a",))
        raw = self.param("raw", boxed, (4,), unbox=False)
        return (x * tree["a"] + tree["b"][0]) * raw.unbox()


class Shared(nn.Module):
    """A submodule that has the scope of this module."""

    def setup(self) -> None:
        self.inner = nn.Dense(4)
        nn.share_scope(self, self.inner)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.inner(x) @ self.param("low", KERNEL, (4, 4))


class Holds(nn.Module):
    """A submodule given as a field, and the same module twice."""

    inner: nn.Module

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.LayerNorm(name="norm")(self.inner(x) + self.inner(2 * x))


class Perturbed(nn.Module):
    """A value whose gradient is asked for."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.perturb("middle", nn.Dense(4)(x)) ** 2


KINDS: dict[str, Make] = {
    "Dense": lambda: nn.Dense(4),
    "Boxed": Boxed,
    "Stateful": Stateful,
    "InSetup": InSetup,
    "Trees": Trees,
    "Shared": Shared,
    "Holds": lambda: Holds(nn.Dense(4)),
    "Perturbed": Perturbed,
}


# Transformations: each is the body of a compact module around an inner one.

VARIABLES = ("params", "batch_stats", "intermediates", "perturbations")
AXES = dict.fromkeys(VARIABLES, 0)
SPLIT = {"params": True, "dropout": True}
NAMED = {"metadata_params": {nn.PARTITION_NAME: "layers"}}


class Runs(nn.Module):
    """Makes a module and runs it: a class to transform."""

    make: Make

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.make()(x)


class Steps(nn.Module):
    """The same, as a step of a scan."""

    make: Make

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return self.make()(x), None


def run(module: nn.Module, x: jax.Array) -> jax.Array:
    return module(x)


def _scan(make: Make, x: jax.Array, lift: tp.Any = lambda target: target) -> jax.Array:
    options = {"variable_axes": AXES, "split_rngs": SPLIT, "length": 2}
    return nn.scan(lift(Steps), **options, **NAMED)(make)(x, None)[0]


def _scan_of_a_function(make: Make, x: jax.Array) -> jax.Array:
    body = nn.scan(
        lambda module, x: (module(x), None),
        variable_axes=AXES,
        split_rngs=SPLIT,
        length=2,
        **NAMED,
    )
    return body(make(), x)[0]


def _scan_of_shared_variables(make: Make, x: jax.Array) -> jax.Array:
    layers = nn.scan(
        Steps,
        variable_broadcast="params",
        variable_axes={"batch_stats": 0},
        split_rngs={"params": False, "dropout": True},
        length=2,
    )
    return layers(make)(x, None)[0]


def _remat_of_a_method(make: Make, x: jax.Array) -> jax.Array:
    class Method(nn.Module):
        @nn.remat
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return make()(x)

    return Method()(x)


def _saving(make: Make, x: jax.Array) -> jax.Array:
    policy = jax.checkpoint_policies.everything_saveable
    return nn.checkpoint(Runs, policy=policy, prevent_cse=False)(make)(x)


def _remat_scan(make: Make, x: jax.Array) -> jax.Array:
    layers = nn.remat_scan(Runs, lengths=(2, 2), variable_axes=AXES, split_rngs=SPLIT)
    return layers(make)(x)


def _vmap(make: Make, x: jax.Array, lift: tp.Any = lambda target: target) -> jax.Array:
    options = {"variable_axes": AXES, "split_rngs": SPLIT, "axis_size": 2}
    return nn.vmap(lift(Runs), in_axes=None, out_axes=0, **options, **NAMED)(make)(x).sum(0)


class Absolute(nn.Module):
    """Runs a module on the absolute values of its parameters."""

    make: Make

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        absolute = functools.partial(jax.tree.map, jnp.abs)
        lifted = nn.map_variables(Runs, "params", absolute, init=self.is_initializing())
        return lifted(self.make)(x)


def _cond(make: Make, x: jax.Array) -> jax.Array:
    return nn.cond(x.sum() > 0, run, lambda module, x: module(2 * x), make(), x)


def _switch(make: Make, x: jax.Array) -> jax.Array:
    branches = [run, lambda module, x: module(2 * x), lambda module, x: module(3 * x)]
    return nn.switch(jnp.array(1), branches, make(), x)


def _while_loop(make: Make, x: jax.Array) -> jax.Array:
    module = make()
    if module.is_initializing():
        return module(x)
    return nn.while_loop(
        lambda _, carry: carry[0] < 2,
        lambda module, carry: (carry[0] + 1, module(carry[1])),
        module,
        (0, x),
        carry_variables="batch_stats",
        split_rngs={"dropout": True},
    )[1]


def _custom_vjp(make: Make, x: jax.Array) -> jax.Array:
    def forward(module: nn.Module, x: jax.Array) -> tp.Any:
        return nn.vjp(run, module, x)

    def backward(function: tp.Any, tangent: tp.Any) -> tp.Any:
        variables, inputs = function(tangent)
        return jax.tree.map(jnp.sign, variables), inputs

    return nn.custom_vjp(run, forward, backward)(make(), x)


def _vjp(make: Make, x: jax.Array) -> jax.Array:
    y, backward = nn.vjp(run, make(), x)
    return y + backward(y)[1]


def _jvp(make: Make, x: jax.Array) -> jax.Array:
    return sum(nn.jvp(run, make(), (x,), (2 * x,), variable_tangents={}))


def _grad(make: Make, x: jax.Array) -> jax.Array:
    return nn.grad(lambda module, x: module(x).sum(), make(), x)[0]


def _value_and_grad(make: Make, x: jax.Array) -> jax.Array:
    value, (inputs,) = nn.value_and_grad(lambda module, x: module(x).sum(), make(), x)
    return value + inputs


def _add_metadata_axis(make: Make, x: jax.Array) -> jax.Array:
    return nn.add_metadata_axis(Runs, {"params": 0}, **NAMED)(make)(x)


def _of_class(lift: tp.Any) -> tp.Callable[[Make, jax.Array], jax.Array]:
    return lambda make, x: lift(Runs)(make)(x)


Body = tp.Callable[[Make, jax.Array], jax.Array]
LIFTS: dict[str, Body] = {
    "scan": _scan,
    "scan of a function": _scan_of_a_function,
    "scan of shared variables": _scan_of_shared_variables,
    "scan of remat": functools.partial(_scan, lift=nn.remat),
    "remat": _of_class(nn.remat),
    "remat of a method": _remat_of_a_method,
    "checkpoint that saves": _saving,
    "remat_scan": _remat_scan,
    "vmap": _vmap,
    "vmap of jit": functools.partial(_vmap, lift=nn.jit),
    "jit": _of_class(nn.jit),
    "map_variables": lambda make, x: Absolute(make)(x),
    "cond": _cond,
    "switch": _switch,
    "while_loop": _while_loop,
    "custom_vjp": _custom_vjp,
    "vjp": _vjp,
    "jvp": _jvp,
    "grad": _grad,
    "value_and_grad": _value_and_grad,
    "add_metadata_axis": _add_metadata_axis,
    "fold_rngs": _of_class(nn.fold_rngs),
}


class Lifts(nn.Module):
    """Runs an inner module in a transformation, between two layers outside of it."""

    body: Body
    make: Make

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(4, name="before")(x)
        return nn.Dense(3, name="after")(self.body(self.make, x))


NOT_IN_FLAX = {
    *(("remat_scan", kind) for kind in ("Boxed", "Trees")),  # it names no axes of boxes
    *((lift, "Holds") for lift in ("custom_vjp", "vjp", "jvp")),  # one scope each
}

LIFTED = [
    Case(
        f"{lift}-{kind}",
        functools.partial(Lifts, body, make),
        (X,),
        streams=("params", "dropout"),
        context=functools.partial(nnx.use_eager_sharding, False),  # there is no mesh
    )
    for lift, body in LIFTS.items()
    for kind, make in KINDS.items()
    if (lift, kind) not in NOT_IN_FLAX
]
