"""NNX modules of every shape."""

import dataclasses
import typing as tp

import jax
import jax.numpy as jnp
from flax import nnx
from flax.core import FrozenDict

from support.versions import graphlib


class Custom(nnx.Param):
    """A Variable type that no collection knows yet."""


@nnx.register_variable_name("graph_tests_named", overwrite=True)
class Named(nnx.Variable):
    """A Variable type with a collection of its own."""


class Shared(nnx.Module):
    def __init__(self, rngs):
        self.second = nnx.Linear(3, 3, rngs=rngs)
        self.first = self.second
        self.kernel = self.second.kernel

    def __call__(self, x):
        return self.first(x) + self.second(x) + self.kernel[...].sum()


class Cycle(nnx.Module):
    def __init__(self, rngs):
        self.child = nnx.Module()
        self.child.parent = self
        self.child.w = nnx.Param(rngs.params.normal((3,)))

    def __call__(self, x):
        return x * self.child.parent.child.w[...]


class Containers(nnx.Module):
    def __init__(self, rngs):
        self.items = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(12)])
        self.table = nnx.Dict(a=nnx.Linear(3, 3, rngs=rngs), b=nnx.Param(jnp.ones(3)))
        self.pair = nnx.data((nnx.Linear(3, 3, rngs=rngs), nnx.Param(jnp.zeros(3))))
        self.plain = nnx.data([nnx.Param(jnp.ones(3)), {"deep": nnx.Param(jnp.ones(3))}])
        self.steps = nnx.Sequential(nnx.Linear(3, 3, rngs=rngs), nnx.relu)
        self.empty = nnx.data([])
        self.nothing = None

    def __call__(self, x):
        for layer in self.items:
            x = layer(x)
        x = self.table["a"](x) + self.table["b"][...]
        x = self.pair[0](x) + self.pair[1][...]
        x = x + self.plain[0][...] * self.plain[1]["deep"][...]
        return self.steps(x)


class Types(nnx.Module):
    def __init__(self, rngs):
        self.custom = Custom(rngs.params.normal((3,)))
        self.named = Named(jnp.full((3,), 2.0))
        self.stat = nnx.BatchStat(jnp.zeros(3))
        self.cache = nnx.Cache(jnp.zeros((), jnp.int32))
        self.annotated = nnx.Param(jnp.ones(3), note="mine", levels=(1, 2))

    def __call__(self, x):
        self.stat[...] = x.mean(0)
        self.cache[...] = self.cache[...] + 1
        self.named[...] = self.named[...] * 2
        return x * self.custom[...] + self.named[...] + self.annotated[...]


class Values(nnx.Module):
    def __init__(self, rngs):
        self.half = nnx.Param(jnp.ones((3,), jnp.bfloat16))
        self.complex = nnx.Param(jnp.ones((3,), jnp.complex64) * 2j)
        self.small = nnx.Param(jnp.ones((3,), jnp.int8))
        self.flag = nnx.Variable(jnp.array(True))
        self.key = nnx.Variable(jax.random.key(7))
        self.scalar = nnx.Param(1.5)
        self.empty = nnx.Param(jnp.zeros((0, 3)))

    def __call__(self, x):
        noise = jax.random.normal(self.key[...], x.shape)
        return (x * self.half[...] + noise + self.scalar.get_value()) * self.complex[...]


class RawArrays(nnx.Module):
    def __init__(self, rngs):
        self.array = nnx.data(rngs.params.normal((3,)))
        self.number = nnx.data(2.0)
        self.table = nnx.data({"x": jnp.ones(3), "y": [jnp.zeros(3)]})

    def __call__(self, x):
        return x * self.array * self.number + self.table["x"] + self.table["y"][0]


class Statics(nnx.Module):
    def __init__(self, rngs):
        self.names = nnx.static(["relu", "gelu"])
        self.mapping = nnx.static({"a": 1})
        self.fn = jnp.sin
        self.size = 3
        self.w = nnx.Param(jnp.ones(self.size))

    def __call__(self, x):
        return self.fn(x) * self.w[...] * len(self.names) * self.mapping["a"]


class NotAModule(nnx.Pytree):
    def __init__(self):
        self.w = nnx.Param(jnp.ones(3))
        self.label = "static"


class HoldsPytree(nnx.Module):
    def __init__(self, rngs):
        self.inner = NotAModule()

    def __call__(self, x):
        return x * self.inner.w[...]


class NotAPytree(nnx.Module, pytree=False):
    def __init__(self, rngs):
        self.sub = nnx.Linear(3, 3, rngs=rngs)
        self.raw = jnp.ones(3)
        self.label = "static"
        self.listed = [1, 2, 3]

    def __call__(self, x):
        return self.sub(x) * self.raw * len(self.listed)


class Node:
    """A graph node type of the user's own."""

    def __init__(self, w):
        self.w = w


def _register_node() -> None:
    def set_key(node, key, value):
        if key == "w" and isinstance(node.w, nnx.Variable) and isinstance(value, nnx.Variable):
            node.w.update_from_state(value)
        else:
            setattr(node, key, value)

    graphlib.register_graph_node_type(
        Node,
        flatten=lambda node: ([("w", node.w)], None),
        set_key=set_key,
        pop_key=lambda node, key: node.__dict__.pop(key),
        create_empty=lambda _: Node.__new__(Node),
        clear=lambda node: node.__dict__.clear(),
        init=lambda node, attributes: node.__dict__.update(attributes),
    )


_register_node()


class HoldsNode(nnx.Module):
    def __init__(self, rngs):
        self.node = nnx.data(Node(nnx.Param(rngs.params.normal((3,)))))

    def __call__(self, x):
        return x + self.node.w[...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Point:
    x: tp.Any
    y: tp.Any


class HoldsVariablesInPytrees(nnx.Module):
    def __init__(self, rngs):
        self.point = nnx.data(Point(nnx.Param(jnp.ones(3)), nnx.Linear(3, 3, rngs=rngs)))
        self.frozen = nnx.data(FrozenDict({"w": nnx.Param(jnp.ones(3))}))

    def __call__(self, x):
        return self.point.y(x) * self.point.x[...] + self.frozen["w"][...]


class Sows(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        x = self.layer(x)
        self.sow(nnx.Intermediate, "seen", x)
        return self.perturb("nudge", x)


class KeepsRngs(nnx.Module):
    def __init__(self, rngs):
        self.rngs = rngs
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.forked = rngs.fork()

    def __call__(self, x):
        return self.drop(x) + jax.random.normal(self.rngs.params(), x.shape)


GRAPHS = [
    Shared,
    Cycle,
    Containers,
    Types,
    Values,
    RawArrays,
    Statics,
    HoldsPytree,
    NotAPytree,
    HoldsNode,
    HoldsVariablesInPytrees,
    Sows,
    KeepsRngs,
]
