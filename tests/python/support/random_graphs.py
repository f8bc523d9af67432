"""Random NNX graphs for hypothesis: described by hashable specifications, built by a module."""

import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from hypothesis import strategies as st

DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int4", "int8", "int16",
          "int32", "uint4", "uint8", "uint16", "uint32", "bool", "complex64")  # fmt: skip


class Custom(nnx.Variable):
    """A Variable type of a user."""


class CustomParam(nnx.Param):
    """A Variable type of a user that is a kind of parameter."""


nnx.register_variable_name("random_custom", Custom)
nnx.register_variable_name("random_custom_param", CustomParam)

TYPES = (nnx.Param, nnx.BatchStat, nnx.Cache, nnx.Intermediate, Custom, CustomParam)
# No names that are methods of nnx.Module; two that Linen's wrappers have themselves.
NAMES = ("a", "b", "kernel", "scope", "名", "with_under_score", "A1")

Spec = tuple[tp.Any, ...]

arrays = st.tuples(st.sampled_from(DTYPES), st.sampled_from([(), (2,), (1, 3), (0,)]))
metadata = st.sampled_from([(), (("note", "mine"),), (("axes", ("x", None)), ("n", 3))])
variables = st.tuples(st.just("variable"), st.integers(0, len(TYPES) - 1), arrays, metadata)
leaves = st.one_of(
    variables,
    variables,
    st.tuples(st.just("array"), arrays),
    st.tuples(st.just("static"), st.sampled_from([None, 1, 2.5, "text", (1, 2), np.float32])),
    st.just(("streams",)),
    st.just(("key",)),
    st.just(("empty",)),
    # The n-th node so far: shared, or a cycle back to one that is being built.
    st.tuples(st.just("again"), st.integers(0, 5)),
)


def named(children: st.SearchStrategy[Spec]) -> st.SearchStrategy[tuple[tuple[str, Spec], ...]]:
    return st.dictionaries(st.sampled_from(NAMES), children, max_size=3).map(
        lambda found: tuple(found.items())
    )


def containers(children: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    return st.one_of(
        st.tuples(st.just("module"), named(children)),
        st.tuples(st.just("dict"), named(children)),
        st.tuples(st.just("list"), st.lists(children, max_size=3).map(tuple)),
    )


def more_containers(children: st.SearchStrategy[Spec]) -> st.SearchStrategy[Spec]:
    several = st.lists(children, max_size=3).map(tuple)
    return st.one_of(
        containers(children),
        st.tuples(st.just("tuple"), several),
        st.tuples(st.just("plain list"), several),
        st.tuples(st.just("plain dict"), named(children)),
    )


graphs = st.recursive(leaves, containers, max_leaves=12)
# With Python's own containers, whose contents Flax's bridge cannot load again.
wider_graphs = st.recursive(leaves, more_containers, max_leaves=12)


def array_of(dtype: str, shape: tuple[int, ...], number: int) -> jax.Array:
    return (jnp.arange(np.prod(shape, dtype=int)).reshape(shape) + number).astype(dtype)


CONTAINERS: dict[str, tp.Any] = {
    "dict": nnx.Dict,
    "list": nnx.List,
    "plain dict": dict,
    "plain list": list,
    "tuple": tuple,
}


class Part(nnx.Module):
    """A submodule with the attributes that the specification names."""


class Random(nnx.Module):
    """The graph of a specification. Its call depends on each value, and counts the calls."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs) -> None:
        nodes: list[tp.Any] = []
        root = self._build(spec, rngs, nodes)
        self.root = root if spec[0] == "static" else nnx.data(root)
        self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def _build(self, spec: Spec, rngs: nnx.Rngs, nodes: list[tp.Any]) -> tp.Any:
        kind = spec[0]
        if kind == "static":
            return spec[1]
        if kind == "again":
            return nodes[spec[1] % len(nodes)] if nodes else None
        if kind == "streams":
            made: tp.Any = nnx.Rngs(noise=rngs.params())
        elif kind == "key":
            made = Custom(jax.random.key(len(nodes)))
        elif kind == "empty":
            made = Part()
        elif kind == "array":
            made = array_of(*spec[1], len(nodes))
        elif kind == "variable":
            _, which, (dtype, shape), extra = spec
            made = TYPES[which](array_of(dtype, shape, len(nodes)), **dict(extra))
        elif kind == "module":
            made = Part()
            nodes.append(made)
            for name, child in spec[1]:
                setattr(made, name, self._attribute(child, rngs, nodes))
            return made
        else:
            container = CONTAINERS[kind]
            build = self._attribute if issubclass(container, nnx.Pytree) else self._build
            if kind.endswith("dict"):
                return container({name: build(child, rngs, nodes) for name, child in spec[1]})
            return container([build(child, rngs, nodes) for child in spec[1]])
        nodes.append(made)
        return made

    def _attribute(self, spec: Spec, rngs: nnx.Rngs, nodes: list[tp.Any]) -> tp.Any:
        value = self._build(spec, rngs, nodes)
        return value if spec[0] == "static" else nnx.data(value)

    def __call__(self, x: jax.Array) -> tp.Any:
        self.calls[...] += 1
        values = []
        for path, leaf in nnx.to_flat_state(nnx.state(self)):
            value = jnp.asarray(leaf.get_value() if isinstance(leaf, nnx.Variable) else leaf)
            if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
                value = jax.random.key_data(value)
            values.append(("/".join(map(str, path)), value * x.astype(value.dtype)))
        return dict(values)
