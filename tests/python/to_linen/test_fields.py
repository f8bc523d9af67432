"""Fields of a ToLinen: Linen modules in them are adopted as by Flax, other values left alone."""

import collections
import dataclasses
import enum
import functools
import typing as tp

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import FrozenDict
from jax.sharding import PartitionSpec

from support.oracle import assert_same, bits, describe, ours, state_of, theirs

X = jnp.arange(6.0).reshape(2, 3)
dense = functools.partial(nn.Dense, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


pytestmark = pytest.mark.usefixtures("with_and_without_plans")


class Calls(nnx.Module):
    """Runs what Linen modules its constructor is given."""

    def __init__(self, *args, rngs, **kwargs):
        given = jax.tree.leaves((args, kwargs))
        self.layers = tuple(value for value in given if isinstance(value, nn.Module))
        self.linear = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.linear(x)


class Scale(nn.Module):
    """Has no variables: with it, Flax's apply works too."""

    by: float = 2.0

    def __call__(self, x):
        return x * self.by


class Holder(nn.Module):
    inner: nn.Module

    def __call__(self, x):
        return self.inner(x) + 1


class Point(tp.NamedTuple):
    x: tp.Any
    y: tp.Any


PLACES: dict[str, tp.Callable[[tp.Callable], dict[str, tp.Any]]] = {
    "args": lambda make: {"args": (make(), make())},
    "args as a list": lambda make: {"args": [make(), 3, make()]},
    "list": lambda make: {"args": ([make(), None, make()],)},
    "tuple": lambda make: {"args": ((1, (make(),)), make())},
    "dict": lambda make: {"args": ({"b": make(), "a": {"c": make(), "d": 1}},)},
    "FrozenDict": lambda make: {"args": (FrozenDict({"b": make(), "a": {"c": (make(),)}}),)},
    "kwargs": lambda make: {"kwargs": {"first": make(), "plain": 1}},
    "FrozenDict of kwargs": lambda make: {"kwargs": FrozenDict({"x": [make()], "y": {"z": 1}})},
    "both": lambda make: {"args": (make(),), "kwargs": {"second": (make(),)}},
    "namedtuple": lambda make: {"args": (Point(make(), 1),)},
    "inside another": lambda make: {"args": (Holder(make()), Holder(Holder(make())))},
    "named": lambda make: {"args": (make().copy(parent=None, name="mine"),)},
    "bound elsewhere": lambda make: {"args": (make().bind({}), [make().bind({})])},
    "no module": lambda make: {"args": (1, "a"), "kwargs": {"b": (None, 1.5)}},
}


def assert_alike(make: tp.Callable[[tp.Any], nn.Module]) -> tp.Any:
    """Fails unless `init` is Flax's and `apply` repeats it; returns the variables."""
    model = make(ours)
    expected = make(theirs).init_with_output(RNGS, X)
    assert_same(model.init_with_output(RNGS, X), expected)
    out, variables = expected
    for _ in range(2):
        assert_same(model.apply(variables, X), out)
        assert_same(model.apply(variables, X, mutable=True), expected)
    return variables


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_linen_modules_are_adopted_wherever_they_are(place):
    assert_alike(lambda bridge: bridge.ToLinen(Calls, **place(dense)))


@pytest.mark.parametrize("make", [Scale, lambda: nn.Dropout(0.5, deterministic=False)])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_adopted_modules_run_in_apply_as_in_flax(place, make):
    model, reference = (bridge.ToLinen(Calls, **place(make)) for bridge in (ours, theirs))
    variables = reference.init(RNGS, X)
    expected = reference.apply(variables, X, rngs=RNGS, mutable=True)
    for _ in range(2):
        assert_same(model.apply(variables, X, rngs=RNGS, mutable=True), expected)


def shared_by_two(bridge):
    class Outer(nn.Module):
        layer: nn.Module

        @nn.compact
        def __call__(self, x):
            for _ in range(2):
                x = bridge.ToLinen(Calls, args=(self.layer,))(x)
            return self.layer(x)

    return Outer(dense())


def wrapper_shared_by_fields(bridge):
    # Each call in `init` makes the variables anew, so they must not depend on the keys.
    ones = {"kernel_init": nnx.initializers.ones}
    wrapper = bridge.ToLinen(nnx.Linear, args=(3, 3), kwargs=ones)
    return nn.Sequential([wrapper, Holder(wrapper), wrapper])


LAYER = dense()
SHARED = {
    "in one": (lambda b: b.ToLinen(Calls, (LAYER, [LAYER]), {"more": {"a": LAYER}}), 2),
    "below": (lambda b: b.ToLinen(Calls, args=(Holder(LAYER), LAYER, Holder(LAYER))), 2),
    "by two": (shared_by_two, 3),
    "a wrapper": (wrapper_shared_by_fields, 1),
}


@pytest.mark.parametrize(("make", "kernels"), SHARED.values(), ids=SHARED)
def test_shared_modules_stay_shared(make, kernels):
    assert str(describe(assert_alike(make))).count("kernel") == kernels


def test_each_apply_runs_clones_and_leaves_the_user_s_modules_unbound():
    seen = []

    class Seen(Scale):
        def __call__(self, x):
            seen.append(self)
            return x

    layer, listed = Seen(), [Seen()]
    model = ours.ToLinen(Calls, args=(layer, listed), kwargs={"third": layer, "plain": [1]})
    before = {name: getattr(model, name) for name in ("args", "kwargs", "metadata_fn")}
    variables = model.init(RNGS, X)
    model.apply(variables, X)
    model.apply(variables, X)
    assert len(seen) == 9
    assert len({id(module) for module in seen}) == 6  # the third is the first
    assert not any(module is layer or module is listed[0] for module in seen)
    for module in (layer, listed[0], model):
        assert (module.scope, module.parent, module.name) == (None, None, None)
    assert all(getattr(model, name) is value for name, value in before.items())
    assert model.args[0] is model.kwargs["third"] is layer
    assert model.args[1] is listed
    assert shown(before["kwargs"]["plain"]) == shown([1])


def subclass_with_a_field(bridge):
    class Sub(bridge.ToLinen):
        before: tp.Any = None
        more: tp.Any = ()

        @nn.compact
        def __call__(self, x):
            x = self.before(x)
            for layer in [*self.more["list"], self.more["one"]]:
                x = layer(x)
            return super().__call__(x)

    return Sub(Calls, before=dense(), more={"list": [dense(), Holder(dense())], "one": dense()})


def subclass_of_a_class(bridge):
    class Sub(getattr(bridge, "wrappers", bridge).to_linen_class(Calls)):
        pass

    return Sub(args=(dense(),), inner=dense(), others=[dense(), {"a": dense()}], plain=3)


class WithSetup:
    """What `setup` assigns: modules by every container, and plain values."""

    def setup(self):
        self.first = dense()
        self.layers = [dense(), {"deep": dense()}]
        self.scale, self.sizes, self.table, self.nothing = 2.0, [1, [2]], {"a": [3]}, None
        self.function, self.kind = jnp.tanh, dense

    @nn.compact
    def __call__(self, x):
        assert (self.sizes, self.nothing, self.kind) == ((1, (2,)), None, dense)
        assert type(self.table) is FrozenDict
        assert self.table == FrozenDict({"a": (3,)})
        x = self.layers[1]["deep"](self.layers[0](self.first(x)))
        return self.function(super().__call__(x) * self.scale)


def adopted_names(bridge):
    class Sub(bridge.ToLinen):
        preserve_adopted_names: tp.ClassVar[bool] = True

    return Sub(Calls, args=(nn.Dense(3, name="mine"), [dense()]))


def made_in_setup(bridge):
    class Outer(nn.Module):
        layer: nn.Module

        def setup(self):
            self.bridged = [bridge.ToLinen(Calls, args=(self.layer,)) for _ in range(2)]
            self.rematted = nn.remat(bridge.ToLinen)(Calls, args=([self.layer],))

        def __call__(self, x):
            return self.rematted(self.bridged[1](self.bridged[0](x)))

    return Outer(dense())


MAKERS = {
    "subclass": subclass_with_a_field,
    "subclass of a class": subclass_of_a_class,
    "setup": lambda b: type("Sub", (WithSetup, b.ToLinen), {})(Calls, args=(dense(),)),
    "adopted names": adopted_names,
    "made in setup": made_in_setup,
    "one in another": lambda b: b.ToLinen(Calls, args=(b.ToLinen(Calls, args=(dense(),)),)),
    "field of Linen": lambda b: nn.Sequential(
        [dense(), Holder(b.ToLinen(Calls, (dense(),), {"more": [1, dense()]}))]
    ),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_fields_of_subclasses_and_of_linen_modules(make):
    assert_alike(make)


def test_on_the_bound_module_lists_are_tuples_and_dicts_are_frozen():
    fields = {"args": [1, [2, {"a": [3]}], (4, "b")], "kwargs": {"k": [5], "d": {"e": (6,)}}}
    mine, reference = (bridge.ToLinen(Calls, **fields).bind({}) for bridge in (ours, theirs))
    assert shown((mine.args, mine.kwargs)) == shown((reference.args, reference.kwargs))
    assert mine.args == (1, (2, FrozenDict({"a": (3,)})), (4, "b"))
    assert mine.kwargs == FrozenDict({"k": (5,), "d": {"e": (6,)}})


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


@flax.struct.dataclass
class Config:
    size: int
    array: tp.Any


@dataclasses.dataclass(frozen=True)
class Plain:
    size: int
    inner: tp.Any = ()


EXOTIC: dict[str, tp.Any] = {
    "namedtuple": Point(1, [2, {"a": 3}]),
    "PartitionSpec": PartitionSpec("a", None, ("b", "c")),
    "partial": functools.partial(jnp.add, [1], y=(2,)),
    "jax partial": jax.tree_util.Partial(jnp.add, jnp.ones(3)),
    "jitted": jax.jit(jnp.tanh),
    "function": jnp.tanh,
    "class": dict,
    "numpy": np.arange(3),
    "numpy scalar": np.float32(2),
    "jax array": jnp.arange(3),
    "key": jax.random.key(3),
    "enum": Color.RED,
    "int enum": (Level.HIGH, [Level.HIGH]),
    "dtype": (jnp.float32, np.dtype("int8"), jnp.bfloat16),
    "struct": Config(1, jnp.ones(2)),
    "dataclass": Plain(1, (2, [3])),
    "empty": ((), [], {}, FrozenDict({}), ((), ([], {"a": {}}), [[]]), {"b": [{}]}),
    "sets": (frozenset({1, 2}), {3}),
    "dicts": (collections.OrderedDict(b=1, a=[2]), {"1": 2, "x": FrozenDict(y=(3,))}),
    "keys of dicts": (FrozenDict({1: 2, "a": 3}), {True: [1]}, {("a", 1): 2}),
    "scalars": (None, True, 2**70, -0.0, float("inf"), 1j, b"bytes", ..., slice(1, 2)),
    "types": (tp.Any, list[int], int | None),
}


def shown(value: tp.Any) -> tp.Any:
    """A value with the types of all its parts."""
    if isinstance(value, tuple | list):
        return (type(value), [shown(part) for part in value])
    if isinstance(value, dict | FrozenDict):
        return (type(value), [(repr(name), shown(part)) for name, part in value.items()])
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.name != "parent"]
        return (type(value), [shown(getattr(value, name)) for name in names])
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        return (type(value), bits(value))
    return (type(value), repr(value))


@pytest.mark.parametrize("value", EXOTIC.values(), ids=EXOTIC)
def test_other_values_arrive_as_in_flax(value):
    before, given, results = shown(value), [], []
    for bridge in (ours, theirs):

        class Takes(nnx.Module):
            def __init__(self, *args, rngs, **kwargs):
                given.append(shown((args, kwargs)))
                self.linear = nnx.Linear(3, 3, rngs=rngs)

            def __call__(self, x):
                return self.linear(x)

        kwargs = {"keyword": value, "deep": (value, 1)}
        model = bridge.ToLinen(Takes, args=(value, [value], 2), kwargs=kwargs)
        out, variables = model.init_with_output(RNGS, X)
        applied = [model.apply(variables, X, mutable=True) for _ in range(2)]
        bound = model.bind(variables, rngs=RNGS)
        fields = shown((bound.args, bound.kwargs))
        results.append((fields, describe((out, variables, applied, bound(X)))))
        assert model.args[0] is model.args[1][0] is value
        assert model.kwargs is kwargs
    assert results[0] == results[1]
    assert all(entry == given[-1] for entry in given)  # by Flax
    assert shown(value) == before


@pytest.mark.parametrize("value", EXOTIC.values(), ids=EXOTIC)
def test_a_linen_module_in_a_to_nnx_has_its_fields_as_in_flax(value):
    seen = []

    class Takes(nn.Module):
        value: tp.Any
        inner: tp.Any = None

        @nn.compact
        def __call__(self, x):
            seen.append((shown(self.value), self.inner is None, self.name))
            return nn.Dense(3)(x if self.inner is None else self.inner(x))

    shared = Takes(value)
    for linen in (shared, Takes((value, [value]), shared)):
        results = []
        for bridge in (ours, theirs):
            seen.clear()
            model = bridge.lazy_init(bridge.ToNNX(linen, rngs=nnx.Rngs(0)), X)
            out = [model(X), model(X)]
            results.append((describe((out, state_of(model))), list(seen)))
        assert results[0] == results[1]
    assert (shared.value is value, shared.scope, shared.parent) == (True, None, None)


def described(module: nn.Module) -> tp.Any:
    fields = shown(module.args), repr(module.kwargs), type(module.kwargs)
    return type(module).__name__, module.name, module.scope, fields


COPIES: dict[str, tp.Callable] = {
    "clone": lambda model, _: model.clone(),
    "clone with a name": lambda model, _: model.clone(name="other", parent=None),
    "clone with other fields": lambda model, _: model.clone(args=[dense(), 1], kwargs={"a": [2]}),
    "copy": lambda model, _: model.copy(),
    "copy with fields": lambda model, _: model.copy(args=(1, [dense()]), name="n"),
    "bind and unbind": lambda model, variables: model.bind(variables).unbind()[0],
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_copies_are_flax_s(place, copy):
    results = []
    for bridge in (ours, theirs):
        model = bridge.ToLinen(Calls, **place(dense))
        variables = model.init(RNGS, X)
        copied = copy(model, variables)
        assert_same(model.bind(variables).unbind()[1], variables)
        results.append((described(copied), describe(copied.init_with_output(RNGS, X))))
    assert results[0] == results[1]
