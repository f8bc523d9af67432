"""How one class of flax.nnx is built, wrapped and called."""

import dataclasses
import typing as tp

import jax
import jax.numpy as jnp
from flax.core import FrozenDict

from ..compare import Bridge

# Streams that `init` is given; a class that needs none of them ignores them.
INIT_KEYS = {
    "params": jax.random.key(0),
    "dropout": jax.random.key(1),
    "carry": jax.random.key(2),
    "noise": jax.random.key(3),
}

Factory = tp.Callable[..., tp.Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One way to use a class of flax.nnx through ToLinen.

    Attributes:
      layer: the class that is compared.
      args: arguments of `via` or of the class; a function makes new ones for each use.
      kwargs: keyword arguments of the same.
      inputs: what the module is called with: trees of arrays.
      via: a host from `hosts` that uses the class; None bridges the class itself.
      variant: tells apart several cases of one class.
      skip_rng: True if the constructor takes no `rngs`.
      method: the method that stands for `__call__`.
      options: keyword arguments of the call.
    """

    layer: type
    args: tuple[tp.Any, ...] | tp.Callable[[], tuple[tp.Any, ...]] = ()
    kwargs: tp.Mapping[str, tp.Any] = FrozenDict({})
    inputs: tuple[tp.Any, ...] = (jnp.ones((1, 2)),)
    via: Factory | None = None
    variant: str = ""
    skip_rng: bool = False
    method: str | None = None
    options: tp.Mapping[str, tp.Any] = FrozenDict({})

    @property
    def name(self) -> str:
        """The id of the case in the test report."""
        name = self.layer.__name__
        if self.layer.__module__ == "flax.nnx.bridge.module":
            name = f"bridge.{name}"
        return f"{name}-{self.variant}" if self.variant else name

    @property
    def nnx_class(self) -> Factory:
        """What ToLinen is given."""
        return self.via or self.layer

    @property
    def call_options(self) -> dict[str, tp.Any]:
        """Keyword arguments of ToLinen's call."""
        return {"nnx_method": self.method, **self.options} if self.method else dict(self.options)

    def new_args(self) -> tuple[tp.Any, ...]:
        """Arguments of the constructor, where they hold modules new ones each time."""
        return self.args() if callable(self.args) else self.args

    def wrap(self, bridge: Bridge, **fields: tp.Any) -> tp.Any:
        """ToLinen of `bridge` around the class."""
        fields = {"kwargs": self.kwargs, "skip_rng": self.skip_rng, **fields}
        return bridge.ToLinen(self.nnx_class, args=self.new_args(), **fields)

    def init(self, bridge: Bridge) -> tp.Any:
        """The variables."""
        return self.wrap(bridge).init(INIT_KEYS, *self.inputs, **self.call_options)
