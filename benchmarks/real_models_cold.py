"""Rows of the second table: what a model costs before anything is remembered, and `init`."""

import typing as tp

import jax
from flax import linen as nn
from flax import nnx

import nnx_wrappers
from benchmarks import contenders, models
from benchmarks.contenders import FLAX, KEYS, Chain, three, traced
from benchmarks.measure import Contender
from benchmarks.rows import RealRow


def native_init(keys: dict[str, jax.Array], x: jax.Array) -> tp.Any:
    model = models.Transformer(rngs=nnx.Rngs(**keys))
    return model(x), nnx.state(model)


def chain(bridge: tp.Any) -> nn.Module:
    return Chain(lambda: bridge.ToLinen(models.Block), models.BLOCKS)


def model(bridge: tp.Any) -> nn.Module:
    return bridge.ToLinen(models.Transformer)


def shapes(function: tp.Callable[..., tp.Any], *args: tp.Any) -> Contender:
    """The shapes of the results of `function`, each time one that JAX has never seen."""
    return lambda: jax.eval_shape(lambda *inputs: function(*inputs), *args)


def init_of(
    make: tp.Callable[[tp.Any], nn.Module], staged: tp.Callable[..., Contender] = traced
) -> dict[str, Contender]:
    """An `init` in a trace, against the constructors and the call in NNX."""
    functions = native_init, *(make(bridge).init_with_output for bridge in (FLAX, nnx_wrappers))
    return three(*(staged(function, KEYS, models.sample()) for function in functions))


def init_of_layers() -> dict[str, Contender]:
    return init_of(chain)


def shapes_of_layers() -> dict[str, Contender]:
    return init_of(chain, shapes)


def init_of_model() -> dict[str, Contender]:
    return init_of(model)


NATIVE = "the native model"
CONSTRUCTED = "the constructors and the call"

ROWS = (
    RealRow("ToLinen(12 blocks)", NATIVE, "cold", 1.50, contenders.trace_of_to_linen),
    RealRow("12 ToLinen(block)", NATIVE, "cold", 1.10, contenders.trace_of_blocks),
    RealRow("12 ToLinen(block), init", CONSTRUCTED, "cold", None, init_of_layers),
    RealRow("12 ToLinen(block), init", CONSTRUCTED, "warm", 0.45, init_of_layers),
    RealRow("12 ToLinen(block), eval_shape of init", CONSTRUCTED, "cold", None, shapes_of_layers),
    RealRow("12 ToLinen(block), eval_shape of init", CONSTRUCTED, "warm", 0.45, shapes_of_layers),
    RealRow("ToLinen(12 blocks), init", CONSTRUCTED, "cold", None, init_of_model),
    RealRow("ToLinen(12 blocks), init", CONSTRUCTED, "warm", None, init_of_model),
)
