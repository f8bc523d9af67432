"""What a constructor makes is made anew by each call, and what it is given stays itself.

Whatever the kinds of objects that it keeps: each outcome is that of Flax's bridge, which runs
the constructor each time, and a plan that cannot give it is not made.
"""

import dataclasses
import functools
import typing as tp

import flax.struct
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from support.oracle import assert_same, ours, theirs
from support.planning import plans, reasons

pytestmark = pytest.mark.usefixtures("fresh_caches")

X = jnp.arange(4.0).reshape(1, 4)
KEY = jax.random.key(3)


class Model(nnx.Module):
    """Keeps what `make` makes of it and of an array of the trace, and calls that."""

    def __init__(self, make, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        # Drawn, but the same whatever the key is: init and apply have keys of their own.
        self.function = make(self, jnp.abs(jax.random.normal(rngs.params(), (4,))) * 0 + 2)

    def double(self, x):
        return self.linear(x) * 2

    def __call__(self, x):
        return self.function(x)


def assert_alike(*args: tp.Any, calls: int = 2) -> None:
    results = []
    for bridge in (theirs, ours):
        model = bridge.ToLinen(Model, args=args)
        variables = model.init(KEY, X)
        results.append((variables, [model.apply(variables, X) for _ in range(calls)]))
    assert_same(results[1], results[0])


def with_attributes(function: tp.Callable, **attributes: tp.Any) -> tp.Callable:
    for name, value in attributes.items():
        setattr(function, name, value)
    return function


def reads_itself(module, w):
    def function(x):
        return x * function.w

    return with_attributes(function, w=w)


def custom_vjp(module, w):
    function = jax.custom_vjp(lambda x: x * w)
    function.defvjp(lambda x: (x * w, None), lambda _, g: (g,))
    return function


def custom_jvp(module, w):
    function = jax.custom_jvp(lambda x: x * 2)
    function.defjvp(lambda primals, tangents: (primals[0] * w, tangents[0]))
    return function


def local_class(module, w):
    class Scale(nnx.Module):
        def __call__(self, x):
            return x * w

    return Scale()


def static_method(module, w):
    class Scale(nnx.Module):
        @staticmethod
        def __call__(x):
            return x * w

    return Scale()


def class_attribute(module, w):
    class Scale(nnx.Module):
        factor = w

        def __call__(self, x):
            return x * self.factor

    return Scale()


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A frozen dataclass with what it does not declare."""

    factor: tp.Any = None

    def with_hidden(self, value):
        object.__setattr__(self, "hidden", value)
        return self

    def __call__(self, x):
        return x * self.hidden


# What a constructor keeps that a plan must not: arrays and nodes of its own trace.
HOLDERS = {
    "jit of a closure": lambda module, w: jax.jit(lambda x: x * w),
    "jit of a method": lambda module, w: jax.jit(module.double),
    "jit of a closure over the module": lambda module, w: jax.jit(lambda x: module.double(x)),
    "a partial of a jit": lambda module, w: functools.partial(jax.jit(lambda y, x: x * w), 0),
    "a partial of an array": lambda module, w: functools.partial(lambda y, x: x * y, w),
    "a default": lambda module, w: lambda x, w=w: x * w,
    "a keyword default": lambda module, w: lambda x, *, w=w: x * w,
    "a default that is a module": lambda module, w: lambda x, layer=module.linear: layer(x),
    "a closure with a default": lambda module, w: lambda x, w=w: module.double(x) * w,
    "an attribute": reads_itself,
    "a wrapped function": lambda module, w: functools.wraps(lambda x: x * w)(lambda x: x),
    "custom_vjp": custom_vjp,
    "custom_jvp": custom_jvp,
    "a method of an array": lambda module, w: w.__mul__,
    "a local class": local_class,
    "a static method of a local class": static_method,
    "an attribute of a local class": class_attribute,
    "a frozen dataclass": lambda module, w: Frozen().with_hidden(w),
}


@pytest.mark.filterwarnings("ignore:Found unknown module paths")  # Flax, about traced arrays
@pytest.mark.parametrize("make", HOLDERS.values(), ids=HOLDERS)
def test_no_array_and_no_node_of_a_trace_is_kept(make):
    assert_alike(make)


def counts(log):
    log.append(1)
    return len(log)


def counting_attribute(module, w):
    def function(x):
        function.calls += 1
        return x * function.calls

    return with_attributes(function, calls=0)


class Tagged(set):
    """A set with a constructor of its own."""

    def __init__(self, first, tag):
        super().__init__([first])
        self.tag = tag

    def __call__(self, x):
        self.add(len(self))
        return x * len(self) * self.tag


class Boxed:
    """Says how often it was called, in the auxiliary data of a pytree."""

    def __init__(self, box):
        self.box = box

    def __call__(self, x):
        return x * counts(self.box.log)


@flax.struct.dataclass
class Box:
    w: tp.Any
    log: tp.Any = flax.struct.field(pytree_node=False)


jax.tree_util.register_pytree_node(Boxed, lambda b: ((b.box,), None), lambda _, c: Boxed(c[0]))

# What a constructor keeps that changes when it is called.
COUNTERS = {
    "a default": lambda module, w: lambda x, log=[]: x * counts(log),
    "a keyword default": lambda module, w: lambda x, *, log=[]: x * counts(log),
    "an attribute": counting_attribute,
    "a partial": lambda module, w: functools.partial(lambda log, x: x * counts(log), []),
    "a keyword of a partial": lambda module, w: functools.partial(
        lambda x, log: x * counts(log), log=[]
    ),
    "a frozen dataclass": lambda module, w: functools.partial(
        lambda frozen, x: x * counts(frozen.hidden), Frozen().with_hidden([])
    ),
    "a kind of set": lambda module, w: Tagged(1, 5.0),
    "auxiliary data": lambda module, w: nnx.data(Boxed(Box(nnx.Param(jnp.ones(1)), []))),
}


@pytest.mark.parametrize("make", COUNTERS.values(), ids=COUNTERS)
def test_nothing_that_changes_is_shared_by_two_calls(make):
    assert_alike(make)


def shared_list(module, w):
    module.log = module.again = []
    module.linear.log = module.log
    return lambda x: (
        module.linear(x)
        * (counts(module.log) + 10 * counts(module.again) + 100 * counts(module.linear.log))
    )


def shared_inside(module, w):
    inner = {"log": []}
    module.config = {"one": inner, "two": (inner,)}
    return lambda x: (
        x * (counts(module.config["one"]["log"]) + 10 * counts(module.config["two"][0]["log"]))
    )


def shared_with_metadata(module, w):
    module.log = []
    module.linear.kernel.set_metadata(log=module.log)
    return lambda x: (
        x * (counts(module.log) + 10 * counts(module.linear.kernel.get_metadata("log")))
    )


def shared_data(module, w):
    module.arrays = nnx.data([jnp.ones(1)])
    module.again = nnx.data(module.arrays)

    def function(x):
        module.arrays.append(jnp.ones(1))
        return x * len(module.again)

    return function


SHARED = {
    "attributes": shared_list,
    "inside": shared_inside,
    "metadata": shared_with_metadata,
    "data": shared_data,
}


@pytest.mark.parametrize("make", SHARED.values(), ids=SHARED)
def test_a_container_in_two_places_is_one(make):
    assert_alike(make)


# Equal by what they hold, and yet other objects than those of the next model.
GIVEN = {
    "a closure": lambda log: lambda x: (log.append(1), x)[1],
    "a partial": lambda log: functools.partial(lambda log, x: (log.append(1), x)[1], log),
    "a bound builtin": lambda log: functools.partial(lambda f, x: (f(1), x)[1], log.append),
    "a closure in a partial": lambda log: functools.partial(
        lambda f, x: (f(), x)[1], lambda: log.append(1)
    ),
}


@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN)
def test_equal_arguments_of_two_models_are_not_swapped(make):
    for bridge in (theirs, ours):
        logs: tuple[list[int], list[int]] = ([], [])
        models = [bridge.ToLinen(Keeps, args=(make(log),)) for log in logs]
        variables = models[0].init(KEY, X)
        logs[0].clear()
        for model in (models[0], models[1], models[1]):
            model.apply(variables, X)
        assert [len(log) for log in logs] == [1, 2]


class Keeps(nnx.Module):
    def __init__(self, function, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)
        self.function = function

    def __call__(self, x):
        return self.function(self.linear(x))


GELU = jax.jit(jax.nn.gelu)
PLANNED = {
    "function": jax.nn.relu,
    "jit": GELU,
    "partial": functools.partial(jax.nn.leaky_relu, negative_slope=0.1),
    "ufunc": jnp.tanh,
    "closure": (lambda factor: lambda x: x * factor)(2),
    "closure over a function": (lambda f: lambda x: f(x))(jax.nn.gelu),
    "wrapped": functools.wraps(jax.nn.gelu)(lambda x: x),
    "module and class": (lambda a, b: lambda x: a.tanh(x).astype(b))(jnp, jnp.float16),
}


@pytest.mark.feature("plans")
@pytest.mark.parametrize("function", PLANNED.values(), ids=PLANNED)
def test_functions_that_hold_nothing_of_a_call_are_planned(function):
    for maker in (lambda module, w: function, None):
        model = ours.ToLinen(Model, args=(maker,)) if maker else ours.ToLinen(Keeps, (function,))
        variables = model.init(KEY, X)
        before = plans()["hits"]
        for _ in range(2):
            model.apply(variables, X)
        assert plans()["hits"] > before
    assert reasons() == ""
