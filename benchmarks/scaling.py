"""How the bridge's own cost grows with the model: 1x, 4x and 16x."""

import typing as tp

import jax
from flax import nnx

import nnx_wrappers
from benchmarks import contenders, models
from benchmarks.measure import Contender, best_times

SIZES = (3, 12, 48)  # blocks


def nothing(module: nnx.Module, x: jax.Array) -> jax.Array:
    """A method that does no work: what is left is the bridge."""
    return x


def to_linen(blocks: int) -> tuple[int, Contender]:
    x = models.sample()
    model = nnx_wrappers.ToLinen(models.Transformer, args=(blocks,))
    variables = model.init(contenders.KEYS, x)
    apply = model.apply
    return len(jax.tree.leaves(variables)), lambda: apply(variables, x, nnx_method=nothing)


def to_linen_with_updates(blocks: int) -> tuple[int, Contender]:
    count, _ = to_linen(blocks)
    x = models.sample()
    model = nnx_wrappers.ToLinen(models.Transformer, args=(blocks,))
    variables = model.init(contenders.KEYS, x)
    return count, lambda: model.apply(variables, x, nnx_method=nothing, mutable=["params"])


def to_variables(blocks: int) -> tuple[int, Contender]:
    attributes = contenders.attributes_of(blocks * 100)
    return blocks * 100, lambda: nnx_wrappers.nnx_attrs_to_linen_vars(attributes)


def to_attributes(blocks: int) -> tuple[int, Contender]:
    variables = nnx_wrappers.nnx_attrs_to_linen_vars(contenders.attributes_of(blocks * 100))
    return blocks * 100, lambda: nnx_wrappers.linen_vars_to_nnx_attrs(variables)


WORK: dict[str, tp.Callable[[int], tuple[int, Contender]]] = {
    "ToLinen.apply, nothing mutable": to_linen,
    "ToLinen.apply, params mutable": to_linen_with_updates,
    "nnx_attrs_to_linen_vars": to_variables,
    "linen_vars_to_nnx_attrs": to_attributes,
}


def scaling(seconds: float, sizes: tp.Sequence[int] = SIZES) -> list[dict[str, tp.Any]]:
    """One entry for each work and size: the number of variables, and the seconds."""
    measured = []
    for name, build in WORK.items():
        for size in sizes:
            count, contender = build(size)
            best = best_times({"ours": contender}, seconds)["ours"]
            measured.append({"work": name, "variables": count, "seconds": best})
    return measured
