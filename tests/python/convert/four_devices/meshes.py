"""Meshes, and what is compared under them."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from support.oracle import assert_same, ours, theirs

SIDES = [ours, theirs]
KEY = jax.random.key(0)
X = jnp.arange(16.0).reshape(4, 4) / 16
AUTO = jax.make_mesh((2, 2), ("data", "model"), axis_types=(AxisType.Auto, AxisType.Auto))
EXPLICIT = jax.make_mesh(
    (2, 2), ("data", "model"), axis_types=(AxisType.Explicit, AxisType.Explicit)
)
RULES = (("embed", "data"), ("mlp", "model"), ("layers", None))
MESHES = {
    "with mesh": lambda: AUTO,
    "set_mesh": lambda: jax.set_mesh(AUTO),
    "set_mesh explicit": lambda: jax.set_mesh(EXPLICIT),
}

# On Flax 0.12.12 JAX deprecates `with mesh:`.
allows_with_mesh = pytest.mark.filterwarnings(
    "ignore:`with mesh.` context manager:DeprecationWarning"
)
of_eager_sharding = pytest.mark.parametrize("flag", [True, False])


def each(*mesh_and_rest):
    """Every value with `set_mesh`, the first one with the other meshes as well."""
    names = [name for name in MESHES if name != "set_mesh"]
    return [("set_mesh", v) for v in mesh_and_rest] + [(n, mesh_and_rest[0]) for n in names]


def shardings(tree):
    return [a.sharding if isinstance(a, jax.Array) else None for a in jax.tree.leaves(tree)]


def specs_of(tree):
    """The specs of the arrays that are not whole on each device."""
    specs = [s.spec for s in shardings(tree) if isinstance(s, NamedSharding)]
    return [short(spec) for spec in specs if any(spec)]


def short(spec):
    """JAX's own form of a spec, which leaves out the unsharded axes at the end."""
    axes = list(spec)
    while axes and axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes)


def assert_same_placed(mine, reference, *, split):
    """The same values and boxes on the same devices; at least `split` of them are split."""
    assert_same(mine, reference)
    assert shardings(mine) == shardings(reference)
    assert len(specs_of(mine)) >= split


def specs_before_init(bridge, init):
    """The specs of variables that are not made yet; Flax's boxes give none before."""
    return nn.get_partition_spec(jax.eval_shape(init) if bridge is ours else init())


def both(make):
    """What `make` gives with each side's bridge."""
    return [make(bridge) for bridge in SIDES]


def scanned(cls, axes, name):
    """Four of a class: the collections get a new axis at `axes`, which boxes call `name`."""
    return nn.scan(
        cls,
        variable_axes=axes,
        split_rngs={"params": True},
        length=4,
        metadata_params={nn.PARTITION_NAME: name},
    )
