"""Linen modules of each kind: with their inputs, streams and mutable collections."""

import dataclasses
import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from support.two_methods import Methods

X = jnp.linspace(-1.0, 1.0, 24).reshape(2, 3, 4)


@dataclasses.dataclass(frozen=True)
class Case:
    build: tp.Callable[[], nn.Module]
    args: tuple[tp.Any, ...] = (X,)
    mutable: tp.Any = False

    def rngs(self, seed: int = 0) -> nnx.Rngs:
        return nnx.Rngs(params=seed, dropout=seed + 1)


class Block(nn.Module):
    """A layer with parameters, statistics and dropout, as `nn.scan` takes it."""

    @nn.compact
    def __call__(self, x, _=None):
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(4)(x))
        return nn.Dropout(0.5, deterministic=False)(x), None


class Boxed(nn.Module):
    """Parameters in boxes of names, and a statistic."""

    @nn.compact
    def __call__(self, x):
        init = nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
        x = nn.Dense(4, kernel_init=init)(x)
        seen = self.variable("stats", "seen", lambda: jnp.zeros((), jnp.int32))
        if not self.is_initializing() and self.is_mutable_collection("stats"):
            seen.value += 1
        return x


class Spectral(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.SpectralNorm(nn.Dense(3))(x, update_stats=True)


class Sows(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(x)
        self.sow("intermediates", "hidden", x)
        return x


def stacked(block: type[nn.Module], **kwargs: tp.Any) -> tp.Callable[[], nn.Module]:
    return lambda: nn.scan(
        block,
        variable_axes={"params": 0, "batch_stats": 0},
        split_rngs={"params": True, "dropout": True},
        length=3,
        **kwargs,
    )()


BLOCK = {"args": (X[0],), "mutable": ["batch_stats"]}
CASES = {
    "dense": Case(lambda: nn.Dense(5)),
    "dense general": Case(lambda: nn.DenseGeneral((2, 3), axis=(-2, -1))),
    "conv": Case(lambda: nn.Conv(3, (2,))),
    "embed": Case(lambda: nn.Embed(7, 4), (jnp.arange(6).reshape(2, 3),)),
    "layer norm": Case(lambda: nn.LayerNorm()),
    "group norm": Case(lambda: nn.GroupNorm(num_groups=2)),
    "batch norm": Case(lambda: nn.BatchNorm(use_running_average=False), (X,), ["batch_stats"]),
    "dropout": Case(lambda: nn.Dropout(0.5, deterministic=False)),
    "attention": Case(lambda: nn.MultiHeadDotProductAttention(2), (X, X)),
    "lstm": Case(lambda: nn.RNN(nn.LSTMCell(3))),
    "sequential": Case(lambda: nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])),
    "spectral norm": Case(Spectral, (X,), ["batch_stats"]),
    "weight norm": Case(lambda: nn.WeightNorm(nn.Dense(3))),
    "two methods": Case(Methods),
    "boxes": Case(Boxed, (X,), ["stats"]),
    "block": Case(Block, **BLOCK),
    "scanned": Case(stacked(Block), **BLOCK),
    "scanned and rematerialised": Case(stacked(nn.remat(Block)), **BLOCK),
    "scanned boxes": Case(stacked(Block, metadata_params={nn.PARTITION_NAME: "layers"}), **BLOCK),
}


def made(bridge: tp.Any, case: Case, seed: int = 0) -> tp.Any:
    return bridge.ToNNX(case.build(), rngs=case.rngs(seed)).lazy_init(*case.args)


def float_leaves(tree: tp.Any) -> list[jax.Array]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
