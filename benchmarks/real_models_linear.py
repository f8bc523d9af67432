"""Rows of the second table: whether the cost of a layer stays what it is in a big model.

A hundred layers, not scanned, with 2,000 modules and 10,000 variables, against four times a quarter
of them: 1.0 is a cost that grows with the model and no faster. Flax's bridge is left out: its cost
grows with the square of the model, and with Flax 0.12.8 a quarter takes minutes."""

import functools
import typing as tp

import jax
import jax.numpy as jnp
from flax import nnx

import nnx_wrappers
from benchmarks import sizes
from benchmarks.contenders import traced
from benchmarks.measure import Contender
from benchmarks.rows import RealRow

LAYERS, WIDTH = sizes.LAYERS, 8
MODULES, VARIABLES = 19, 5  # of a layer, without itself; of a module of those
KEYS = {"params": jax.random.key(0)}


class Part(nnx.Module):
    """A module with five variables."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        for number in range(VARIABLES):
            setattr(self, f"w{number}", nnx.Param(rngs.params.normal((WIDTH,))))


class Layer(nnx.Module):
    """Nineteen modules and five variables of its own: 20 and 100."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.parts = nnx.List([Part(rngs=rngs) for _ in range(MODULES)])
        self.own = Part(rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.own.w0[...] + self.parts[0].w0[...]


class Stack(nnx.Module):
    def __init__(self, layers: int, *, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([Layer(rngs=rngs) for _ in range(layers)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x


def wrapped(layers: int) -> tuple[tp.Any, tp.Any, jax.Array]:
    model = nnx_wrappers.ToLinen(Stack, args=(layers,))
    x = jnp.ones((1, WIDTH))
    shapes = jax.eval_shape(model.init, KEYS, x)
    return model, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes), x


def init(layers: int) -> Contender:
    model, _, x = wrapped(layers)
    return traced(model.init, KEYS, x)


def trace(layers: int) -> Contender:
    model, variables, x = wrapped(layers)
    return traced(model.apply, variables, x)


def eager(layers: int) -> Contender:
    model, variables, x = wrapped(layers)
    return lambda: model.apply(variables, x)


def against_a_quarter(work: tp.Callable[[int], Contender], is_cold: bool) -> dict[str, Contender]:
    quarter = work(LAYERS // 4)

    def four_quarters() -> None:
        for _ in range(4):
            quarter()
            if is_cold:
                nnx_wrappers.clear_caches()

    return {"native": four_quarters, "ours": work(LAYERS)}


ROWS = tuple(
    RealRow(
        f"100 layers, {name}", "four times 25 layers", state, 1.1,
        functools.partial(against_a_quarter, work, state == "cold"),
    )
    for name, state, work in (
        ("init", "cold", init), ("trace", "cold", trace), ("trace", "warm", trace),
        ("eager call", "warm", eager),
    )
)  # fmt: skip
