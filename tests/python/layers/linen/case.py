"""How one Linen module is built and called in these tests."""

import contextlib
import dataclasses
import functools
import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx

Args = tuple[tp.Any, ...]


@functools.cache
def floats(*shape: int, dtype: tp.Any = np.float32) -> jax.Array:
    """The same numbers between -1 and 1 for each shape."""
    numbers = np.random.default_rng(0).uniform(-1, 1, shape)
    return jnp.asarray(numbers.astype(dtype))


@functools.cache
def tokens(*shape: int, below: int = 5) -> jax.Array:
    """The same indices for each shape."""
    return jnp.asarray(np.random.default_rng(0).integers(0, below, shape).astype(np.int32))


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A module, its inputs, and the streams that it draws from.

    Attributes:
      name: the test id.
      build: makes the module.
      args: inputs of calls.
      kwargs: keyword arguments of calls and of initialization.
      init_args: inputs of initialization where those of calls do not do.
      streams: names of the streams of its Rngs.
      methods: further methods, with their arguments.
      context: what the runs are done in.
    """

    name: str
    build: tp.Callable[[], nn.Module]
    args: Args
    kwargs: dict[str, tp.Any] = dataclasses.field(default_factory=dict)
    init_args: Args | None = None
    streams: tuple[str, ...] = ("params",)
    methods: dict[str, Args] = dataclasses.field(default_factory=dict)
    context: tp.Callable[[], tp.ContextManager[tp.Any]] = contextlib.nullcontext

    @property
    def first_args(self) -> Args:
        """Inputs of initialization."""
        return self.args if self.init_args is None else self.init_args

    def rngs(self, seed: int = 0) -> nnx.Rngs:
        """Fresh streams; each has a seed of its own."""
        return nnx.Rngs(**{name: seed + i for i, name in enumerate(self.streams)})

    def __str__(self) -> str:
        return self.name


class Arrays:
    """The arrays among some arguments, apart from what a trace must not touch."""

    def __init__(self, args: Args):
        leaves, self._structure = jax.tree.flatten(args)
        self._static = [None if isinstance(x, jax.Array) else x for x in leaves]
        self.values = [x for x in leaves if isinstance(x, jax.Array)]

    def fill(self, values: tp.Sequence[tp.Any]) -> Args:
        """The arguments with these arrays in place of the original ones."""
        rest = iter(values)
        leaves = [next(rest) if x is None else x for x in self._static]
        return jax.tree.unflatten(self._structure, leaves)
