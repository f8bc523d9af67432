"""The models that are measured: transformer blocks, in NNX and in Linen."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from benchmarks import sizes

WIDTH = 64
BLOCKS = sizes.BLOCKS


def sample() -> jax.Array:
    """An input of the models: (batch, positions, width)."""
    return jnp.ones((2, 16, WIDTH))


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention with one head."""
    weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / q.shape[-1] ** 0.5)
    return weights @ v


class Block(nnx.Module):
    """A transformer block in NNX."""

    def __init__(self, width: int = WIDTH, *, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.out = nnx.Linear(width, width, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, deterministic=True, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm1(x)
        x = x + self.out(attend(self.query(y), self.key(y), self.value(y)))
        return x + self.dropout(self.down(nnx.gelu(self.up(self.norm2(x)))))


class Transformer(nnx.Module):
    """Blocks one after the other, in NNX."""

    def __init__(self, blocks: int = BLOCKS, width: int = WIDTH, *, rngs: nnx.Rngs) -> None:
        self.blocks = nnx.List([Block(width, rngs=rngs) for _ in range(blocks)])

    def __call__(self, x: jax.Array) -> jax.Array:
        for block in self.blocks:
            x = block(x)
        return x


class LinenBlock(nn.Module):
    """A transformer block in Linen."""

    width: int = WIDTH

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.LayerNorm()(x)
        query, key, value = (nn.Dense(self.width)(y) for _ in range(3))
        x = x + nn.Dense(self.width)(attend(query, key, value))
        y = nn.Dense(4 * self.width)(nn.LayerNorm()(x))
        return x + nn.Dropout(0.1, deterministic=True)(nn.Dense(self.width)(nn.gelu(y)))


class LinenTransformer(nn.Module):
    """Blocks one after the other, in Linen."""

    blocks: int = BLOCKS
    width: int = WIDTH

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(self.blocks):
            x = LinenBlock(self.width)(x)
        return x
