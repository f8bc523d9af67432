"""The two sides of every comparison."""

import dataclasses
import typing as tp

from flax import nnx

import nnx_wrappers


@dataclasses.dataclass(frozen=True)
class Bridge:
    """One implementation of the bridge."""

    ToNNX: tp.Any
    lazy_init: tp.Callable[..., tp.Any]


ORACLE = Bridge(nnx.bridge.ToNNX, nnx.bridge.lazy_init)
OURS = Bridge(nnx_wrappers.ToNNX, nnx_wrappers.lazy_init)
