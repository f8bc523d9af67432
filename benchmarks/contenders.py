"""What is timed: for each row of the table the same work, done without a bridge, by
Flax's bridge and by ours; and, around a Linen module, by Linen without its shape check."""

import dataclasses
import typing as tp

import jax
import jax.numpy as jnp
from flax import core, nnx
from flax import linen as nn

import nnx_wrappers
from benchmarks import models
from benchmarks.measure import Contender

FLAX: tp.Any = nnx.bridge
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
DENSE = (32, 64)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table; `build` makes what is timed, ready to run."""

    name: str
    against: str
    goal: float
    build: tp.Callable[[], dict[str, Contender]]


def traced(function: tp.Callable[..., tp.Any], *args: tp.Any) -> Contender:
    """Traces `function`, each time as one that JAX has never seen."""
    return lambda: jax.jit(lambda *inputs: function(*inputs)).trace(*args)


def three(
    native: Contender, upstream: Contender, ours: Contender, **more: Contender
) -> dict[str, Contender]:
    return {"native": native, "upstream": upstream, "ours": ours, **more}


def to_linen_of_model() -> tuple[tp.Any, tp.Any, tp.Any]:
    variables = nnx_wrappers.ToLinen(models.Transformer).init(KEYS, models.sample())
    return FLAX.ToLinen(models.Transformer), nnx_wrappers.ToLinen(models.Transformer), variables


def native_trace() -> Contender:
    graphdef, state = nnx.split(models.Transformer(rngs=nnx.Rngs(0)))
    return traced(lambda s, x: nnx.merge(graphdef, s)(x), state, models.sample())


def trace_of_to_linen() -> dict[str, Contender]:
    upstream, ours, variables = to_linen_of_model()
    x = models.sample()
    return three(
        native_trace(), traced(upstream.apply, variables, x), traced(ours.apply, variables, x)
    )


def eager_to_linen() -> dict[str, Contender]:
    upstream, ours, variables = to_linen_of_model()
    native, x = models.Transformer(rngs=nnx.Rngs(0)), models.sample()
    return three(
        lambda: native(x), lambda: upstream.apply(variables, x), lambda: ours.apply(variables, x)
    )


def shell_of(layer: nnx.Module) -> type[nn.Module]:
    """A Linen class that only calls a native layer: the least that any bridge does."""

    class Shell(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return layer(x)

    return Shell


def eager_linear() -> dict[str, Contender]:
    x = jnp.ones((1, DENSE[0]))
    upstream, ours = (b.ToLinen(nnx.Linear, args=DENSE) for b in (FLAX, nnx_wrappers))
    shell, variables = shell_of(nnx.Linear(*DENSE, rngs=nnx.Rngs(0)))(), ours.init(KEYS, x)
    return three(
        lambda: shell.apply(variables, x),
        lambda: upstream.apply(variables, x),
        lambda: ours.apply(variables, x),
    )


class Chain(nn.Module):
    """Many modules one after the other, each made where it is used."""

    make: tp.Callable[[], nn.Module]
    length: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.length):
            x = self.make()(x)
        return x


def traced_chain(make: tp.Callable[[], nn.Module], length: int, x: jax.Array) -> Contender:
    chain = Chain(make, length)
    return traced(chain.apply, chain.init(KEYS, x), x)


def trace_of_many_linear() -> dict[str, Contender]:
    x, size = jnp.ones((1, 64)), (64, 64)
    shell = shell_of(nnx.Linear(*size, rngs=nnx.Rngs(0)))
    return three(
        traced_chain(lambda: shell(), 48, x),
        traced_chain(lambda: FLAX.ToLinen(nnx.Linear, args=size), 48, x),
        traced_chain(lambda: nnx_wrappers.ToLinen(nnx.Linear, args=size), 48, x),
    )


def trace_of_blocks() -> dict[str, Contender]:
    x, length = models.sample(), models.BLOCKS
    return three(
        native_trace(),
        traced_chain(lambda: FLAX.ToLinen(models.Block), length, x),
        traced_chain(lambda: nnx_wrappers.ToLinen(models.Block), length, x),
    )


def trace_of_block_classes() -> dict[str, Contender]:
    class OfFlax(FLAX.wrappers.to_linen_class(models.Block)):  # works only as a base class
        pass

    x, length = models.sample(), models.BLOCKS
    made = nnx_wrappers.to_linen_class(models.Block)
    return three(
        native_trace(),
        traced_chain(lambda: OfFlax(), length, x),
        traced_chain(lambda: made(), length, x),
    )


def to_nnx(module: nn.Module, x: jax.Array) -> tuple[tp.Any, tp.Any, tp.Any]:
    upstream, ours = (b.ToNNX(module, rngs=nnx.Rngs(0)) for b in (FLAX, nnx_wrappers))
    variables = module.init(KEYS, x)
    return FLAX.lazy_init(upstream, x), nnx_wrappers.lazy_init(ours, x), variables


def without_check(contender: Contender) -> Contender:
    """Linen's own code, its shape check left out: what a bridge around it cannot go below."""

    def param(scope: tp.Any, name: str, init_fn: tp.Any, *args: tp.Any, **kwargs: tp.Any) -> tp.Any:
        scope.reserve(name, "params")
        return scope.get_variable("params", name)

    def run() -> object:
        before = core.Scope.param
        core.Scope.param = param
        try:
            return contender()
        finally:
            core.Scope.param = before

    return run


def trace_of_to_nnx() -> dict[str, Contender]:
    linen, x = models.LinenTransformer(), models.sample()
    upstream, ours, variables = to_nnx(linen, x)

    def call(module: tp.Any, x: jax.Array) -> jax.Array:
        return module(x)

    native = traced(linen.apply, variables, x)
    floor = without_check(native)
    return three(native, traced(call, upstream, x), traced(call, ours, x), floor=floor)


def eager_to_nnx(linen: nn.Module, x: jax.Array) -> dict[str, Contender]:
    upstream, ours, variables = to_nnx(linen, x)

    def native() -> tp.Any:
        return linen.apply(variables, x)

    return three(native, lambda: upstream(x), lambda: ours(x), floor=without_check(native))


def attributes_of(count: int) -> dict[str, tp.Any]:
    """Nested attributes: `count` Variables, ten a module."""
    names = "abcdefghij"
    return {f"m{i}": {n: nnx.Param(jnp.zeros(1)) for n in names} for i in range(count // 10)}


def attributes_to_variables() -> dict[str, Contender]:
    attributes = attributes_of(10_000)
    convert = FLAX.variables.nnx_attrs_to_linen_vars
    return {
        "native": lambda: convert(attributes),
        "upstream": lambda: convert(attributes),
        "ours": lambda: nnx_wrappers.nnx_attrs_to_linen_vars(attributes),
    }


def variables_to_attributes() -> dict[str, Contender]:
    variables = nnx_wrappers.nnx_attrs_to_linen_vars(attributes_of(10_000))
    convert = FLAX.variables.linen_vars_to_nnx_attrs
    return {
        "native": lambda: convert(variables),
        "upstream": lambda: convert(variables),
        "ours": lambda: nnx_wrappers.linen_vars_to_nnx_attrs(variables),
    }


class Settings:
    """An argument of a constructor, with many attributes."""

    def __init__(self, count: int) -> None:
        self.bias = True
        for number in range(count):
            setattr(self, f"value_{number}", number)


class Configured(nnx.Module):
    """A layer whose constructor is given settings."""

    def __init__(self, settings: Settings, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(*DENSE, use_bias=settings.bias, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.linear(x)


def guarded(count: int, changes: bool) -> tuple[Contender, Contender]:
    """An apply whose plan depends on `count` attributes; and the same with few. With `changes`
    one of them gets another object of the same value each time, so that all are compared."""
    x = jnp.ones((1, DENSE[0]))

    def contender(settings: Settings) -> Contender:
        model = nnx_wrappers.ToLinen(Configured, args=(settings,))
        variables = model.init(KEYS, x)

        def run() -> object:
            if changes:
                settings.value_0 = float("0.5")
            return model.apply(variables, x)

        settings.value_0 = 0.5
        run()
        return run

    return contender(Settings(count)), contender(Settings(1))


ROWS = (
    Row("trace of jit(ToLinen(model).apply)", "the native model", 1.00, trace_of_to_linen),
    Row("eager ToLinen(model).apply", "the native model", 1.03, eager_to_linen),
    Row("eager ToLinen(nnx.Linear)", "a Linen shell", 1.15, eager_linear),
    Row("48 ToLinen(nnx.Linear), trace", "48 Linen shells", 1.15, trace_of_many_linear),
    Row("12 ToLinen(block), trace", "the native model", 1.10, trace_of_blocks),
    Row("12 to_linen_class(block), trace", "the native model", 1.10, trace_of_block_classes),
    Row("ToNNX(model), trace", "Linen's apply", 0.40, trace_of_to_nnx),
    Row(
        "ToNNX(model), eager",
        "Linen's apply",
        0.36,
        lambda: eager_to_nnx(models.LinenTransformer(), models.sample()),
    ),
    Row(
        "ToNNX(nn.Dense), eager",
        "Linen's apply",
        0.40,
        lambda: eager_to_nnx(nn.Dense(DENSE[1]), jnp.ones((1, DENSE[0]))),
    ),
    Row("nnx_attrs_to_linen_vars, 10,000", "Flax's", 0.05, attributes_to_variables),
    Row("linen_vars_to_nnx_attrs, 10,000", "Flax's", 0.10, variables_to_attributes),
)
