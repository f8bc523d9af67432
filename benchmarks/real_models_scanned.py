"""Rows of the second table: layers in `nn.scan` and `nn.remat`, around either kind of block."""

import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

import nnx_wrappers
from benchmarks import models
from benchmarks.contenders import FLAX, KEYS, three, to_nnx, traced, without_check
from benchmarks.measure import Contender
from benchmarks.rows import RealRow

LAYERS = models.BLOCKS
Loss = tp.Callable[..., jax.Array]


class Steps(nn.Module):
    """A block as a step of a scan."""

    make: tp.Callable[[], nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return self.make()(x), None


class Scanned(nn.Module):
    """Equal blocks in one `nn.scan`, which may recompute them for the gradient."""

    make: tp.Callable[[], nn.Module] = models.LinenBlock
    remat: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layers = nn.scan(
            nn.remat(Steps) if self.remat else Steps,
            variable_axes={"params": 0},
            split_rngs={"params": True, "dropout": True},
            length=LAYERS,
        )
        return layers(self.make)(x, None)[0]


class Rematted(nn.Module):
    """Blocks one after the other, each recomputed for the gradient."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(LAYERS):
            x = nn.remat(models.LinenBlock)()(x)
        return x


def gradient_of(loss: Loss) -> Loss:
    return jax.grad(lambda *args: jnp.sum(loss(*args) ** 2))


def of_to_nnx(linen: nn.Module, gradient: bool) -> dict[str, Contender]:
    """A trace of the module, or of its gradient, by Linen and in a ToNNX."""
    x = models.sample()
    upstream, ours, variables = to_nnx(linen, x)

    def native(params: tp.Any, x: jax.Array) -> jax.Array:
        return linen.apply(params, x)

    def bridged(module: tp.Any) -> Contender:
        graphdef, params, rest = nnx.split(module, nnx.Param, ...)

        def loss(params: tp.Any, rest: tp.Any, x: jax.Array) -> jax.Array:
            return nnx.merge(graphdef, params, rest, copy=True)(x)

        return traced(gradient_of(loss) if gradient else loss, params, rest, x)

    linen_s = traced(gradient_of(native) if gradient else native, variables, x)
    floor = without_check(linen_s)
    return three(linen_s, bridged(upstream), bridged(ours), floor=floor)


def of_to_linen(gradient: bool) -> dict[str, Contender]:
    """A scan over blocks in NNX, against one over the same blocks in Linen."""

    class OfFlax(FLAX.wrappers.to_linen_class(models.Block)):  # works only as a base class
        pass

    x = models.sample()

    def contender(make: tp.Callable[[], nn.Module]) -> Contender:
        scanned = Scanned(make)
        function: tp.Any = gradient_of(scanned.apply) if gradient else scanned.apply
        return traced(function, scanned.init(KEYS, x), x)

    ours = nnx_wrappers.to_linen_class(models.Block)
    return three(contender(models.LinenBlock), contender(OfFlax), contender(ours))


def row(
    name: str, state: tp.Literal["cold", "warm"], goal: float | None, linen: nn.Module
) -> RealRow:
    return RealRow(
        f"ToNNX({name})", "Linen's apply", state, goal, lambda: of_to_nnx(linen, False), True
    )


def gradient_row(name: str, goal: float | None, linen: nn.Module) -> RealRow:
    return RealRow(
        f"ToNNX({name}), gradient", "Linen's gradient", "warm", goal,
        lambda: of_to_nnx(linen, True), True,
    )  # fmt: skip


SCAN_OF_REMAT, SCAN = Scanned(), Scanned(remat=False)

ROWS = (
    row("nn.scan(nn.remat(block))", "warm", 1.08, SCAN_OF_REMAT),
    gradient_row("nn.scan(nn.remat(block))", 1.08, SCAN_OF_REMAT),
    row("nn.scan(block)", "warm", 1.08, SCAN),
    gradient_row("nn.scan(block)", None, SCAN),
    row("12 nn.remat(block)", "warm", 1.08, Rematted()),
    gradient_row("12 nn.remat(block)", 1.08, Rematted()),
    row("nn.scan(nn.remat(block))", "cold", None, SCAN_OF_REMAT),
    row("12 nn.remat(block)", "cold", None, Rematted()),
    RealRow(
        "nn.scan(nn.remat(to_linen_class(block)))", "the Linen twin", "warm", 0.50,
        lambda: of_to_linen(False),
    ),
    RealRow(
        "nn.scan(nn.remat(to_linen_class(block))), gradient", "the Linen twin", "warm", 0.75,
        lambda: of_to_linen(True),
    ),
    RealRow(
        "nn.scan(nn.remat(to_linen_class(block)))", "the Linen twin", "cold", None,
        lambda: of_to_linen(False),
    ),
)  # fmt: skip
