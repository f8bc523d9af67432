"""Random Linen modules for hypothesis: described by hashable specifications, built by a module."""

import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from hypothesis import strategies as st

from support.random_graphs import Spec, array_of, arrays

COLLECTIONS = ("params", "batch_stats", "cache", "own_name")
# No names that are methods of ToNNX, which refuses them.
NAMES = ("a", "b", "kernel", "名", "with space", "A1", "value", "0")
BOXES: dict[str, tp.Callable[[tp.Any], tp.Any]] = {
    "none": lambda init: init,
    "partitioned": lambda init: nn.with_partitioning(init, ("x", None)),
    "logical": lambda init: nn.with_logical_partitioning(init, ("y",), rules=(("y", "x"),)),
}

variables = st.tuples(
    st.just("variable"), st.sampled_from(COLLECTIONS), arrays, st.sampled_from(sorted(BOXES))
)
leaves = st.one_of(
    variables, variables, st.just(("sown",)), st.just(("noise",)), st.just(("nested",))
)


def modules(children: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    kinds = st.sampled_from(["module", "called twice", "scanned", "in a list"])
    members = st.dictionaries(st.sampled_from(NAMES), children, max_size=3)
    return st.tuples(kinds, members.map(lambda found: tuple(found.items())))


linen_modules = modules(st.recursive(leaves, modules, max_leaves=8))


class RandomLinen(nn.Module):
    """The module of a specification. Its call depends on each variable, and changes what it may."""

    spec: Spec

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, (name, item) in enumerate(self.spec[1]):
            x = self._use(name, item, number, x)
        return x

    def _use(self, name: str, item: Spec, number: int, x: jax.Array) -> jax.Array:
        kind = item[0]
        if kind == "variable":
            return x + self._variable(name, item, number)
        if kind == "sown":
            self.sow("intermediates", name, x)
            return x
        if kind == "noise":
            return x + jax.random.normal(self.make_rng("noise"))
        if kind == "nested":  # a variable that is a tree
            tree = self.variable("cache", name, lambda: {"b": jnp.ones(2), "a": (jnp.ones(1), 3)})
            return x + tree.value["b"].sum()
        if kind == "scanned":
            axes = {"params": 0, "batch_stats": 0, "cache": 0, "own_name": 0, "intermediates": 0}
            streams = {"params": True, "noise": True}
            named = {nn.PARTITION_NAME: "steps"}
            scan = nn.scan(
                Step, variable_axes=axes, split_rngs=streams, length=2, metadata_params=named
            )
            return scan(item, name=name)(x, None)[0]
        if kind == "in a list":
            return Listed([RandomLinen(item)], name=name)(x)
        module = RandomLinen(item, name=name)
        return module(module(x)) if kind == "called twice" else module(x)

    def _variable(self, name: str, item: Spec, number: int) -> jax.Array:
        _, collection, (dtype, shape), box = item
        make = BOXES[box](lambda *key: array_of(dtype, shape, number))
        if collection == "params":
            value = self.param(name, make)
        else:
            variable = self.variable(collection, name, make)
            value = variable.value
            if self.is_mutable_collection(collection):
                variable.value = value + value
        return jnp.real(value).astype(jnp.float32).sum()


class Step(nn.Module):
    """One step of a scan over a module."""

    spec: Spec

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        return RandomLinen(self.spec, name="inner")(x), None


class Listed(nn.Module):
    """A module whose submodules are in a list."""

    layers: tp.Sequence[nn.Module]

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer in self.layers:
            x = layer(x)
        return x
