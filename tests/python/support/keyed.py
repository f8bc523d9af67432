"""ToNNX modules whose Linen module draws keys, called as Flax's bridge calls them."""

import functools
import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, state_of, theirs

X = jnp.arange(6.0).reshape(2, 3)
DROPOUT = functools.partial(nn.Dropout, 0.5, deterministic=False)


def streams() -> nnx.Rngs:
    return nnx.Rngs(0, dropout=1, noise=2)


def uniform(module: nn.Module, name: str = "dropout") -> jax.Array:
    return jax.random.uniform(module.make_rng(name))


def inline(call: tp.Callable, init: tp.Callable | None = None) -> nn.Module:
    """A Linen module of one method; `init` is what it runs to initialize."""

    class Inline(nn.Module):
        @nn.compact
        def __call__(self, x):
            return (init or call)(self, x) if self.is_initializing() else call(self, x)

    return Inline()


class Drop(nn.Module):
    layers: int = 1
    deterministic: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(3)(x)
        for _ in range(self.layers):
            x = DROPOUT(deterministic=self.deterministic)(x)
        return x


def made(bridge: tp.Any, linen: nn.Module, rngs: tp.Any = None) -> tp.Any:
    return bridge.lazy_init(bridge.ToNNX(linen, rngs=streams() if rngs is None else rngs), X)


def twice(model: tp.Any, **kwargs: tp.Any) -> list[tp.Any]:
    return [model(X, **kwargs), model(X, **kwargs)]


def assert_alike(make: tp.Any, call: tp.Callable = twice, rngs: tp.Callable = streams) -> tp.Any:
    """Fails unless outputs, variables, keys and counts are Flax's; returns the outputs."""
    results = []
    for bridge in (ours, theirs):
        model = made(bridge, make if isinstance(make, nn.Module) else make(bridge), rngs())
        out = call(model)
        results.append((out, state_of(model)))
    assert_same(results[0], results[1])
    return results[0][0]


def counts(rngs: nnx.Rngs) -> dict[str, int]:
    return {name: int(stream.count.get_raw_value()) for name, stream in rngs.items()}
