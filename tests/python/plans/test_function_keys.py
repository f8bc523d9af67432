"""Keys of functions: what tells them apart, and functions that lead back to themselves."""

import functools

import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs
from support.planning import plans, value_of

pytestmark = pytest.mark.usefixtures("fresh_caches")

X = jnp.arange(6.0).reshape(2, 3)


def scaled_by_attribute(scale):
    def function():
        return function.scale

    function.scale = scale
    return function


def wrapping(scale):
    @functools.wraps(jnp.tanh)
    def function():
        return 1.0

    function.scale = scale
    return function


def named(scale):
    def function():
        return scale and 1.0

    function.__name__ = f"scale_{scale}"
    return function


FUNCTIONS = {
    "attribute": (scaled_by_attribute, lambda f: f()),
    "wrapper": (wrapping, lambda f: f.scale),
    "name": (named, lambda f: float(f.__name__.partition("_")[2])),
}


@pytest.mark.parametrize(("make", "read"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_are_told_apart_by_attributes_and_names(make, read):
    class Model(nnx.Module):
        def __init__(self, function, rngs):
            self.scale = read(function)

        def __call__(self):
            return jnp.ones(1) * self.scale

    for scale in (1.0, 2.0, 3.0):
        assert value_of(ours.ToLinen(Model, args=(make(scale),))) == scale


def test_attributes_that_are_set_later_are_seen():
    class Model(nnx.Module):
        def __init__(self, function, rngs):
            self.scale = getattr(function, "scale", 1.0)

        def __call__(self):
            return jnp.ones(1) * self.scale

    function = (lambda factor: lambda: factor)(1.0)
    for scale in (None, 2.0, 3.0):
        if scale:
            function.scale = scale
        assert value_of(ours.ToLinen(Model, args=(function,))) == (scale or 1.0)


@pytest.mark.feature("plans")
@pytest.mark.parametrize("method", [{"n": 2}.copy, [1, 2].copy], ids=["dict", "list"])
def test_a_builtin_that_is_bound_to_an_object_is_not_planned(method):
    table = {"n": 2.0}

    class Model(nnx.Module):
        def __init__(self, get, rngs):
            self.scale = get("n")

        def __call__(self):
            return jnp.ones(1) * self.scale

    model = ours.ToLinen(Model, args=(table.get,))
    for table["n"] in (2.0, 3.0):
        assert value_of(model) == table["n"]
    for callable_, planned in ((method, False), (dict, True), (jnp.ones(1).sum, False)):
        ours.clear_caches()
        ours.ToLinen(Kept, args=(callable_,)).apply({})
        assert (plans()["size"] > 0) == planned


class Kept(nnx.Module):
    def __init__(self, function, rngs):
        self.function = function

    def __call__(self):
        return self.function()


def calls_itself(steps):
    def function(x, n=steps):
        return x * 3 if n == 0 else function(x, n - 1)

    return function


def call_each_other(steps):
    def even(x, n=steps):
        return x * 5 if n == 0 else odd(x, n - 1)

    def odd(x, n):
        return x * 7 if n == 0 else even(x, n - 1)

    return even


@pytest.mark.feature("plans")
@pytest.mark.parametrize("make", [calls_itself, call_each_other])
def test_functions_that_call_themselves_are_planned(make):
    class Model(nnx.Module):
        def __init__(self, function, rngs):
            self.function = function

        def __call__(self):
            return self.function(jnp.ones(1))

    for steps in (1, 2, 1):
        model, reference = (b.ToLinen(Model, args=(make(steps),)) for b in (ours, theirs))
        assert_same(model.apply({}), reference.apply({}))
    assert plans()["hits"] > 0
    assert plans()["not_planned"] == {}


@pytest.mark.parametrize("make", [calls_itself, call_each_other])
def test_initializers_that_call_themselves_are_checked(make):
    init = (lambda f: lambda key, shape, dtype: f(jnp.ones(shape, dtype)))(make(2))
    model, reference = (
        b.ToNNX(nn.Dense(3, kernel_init=init), rngs=nnx.Rngs(0)).lazy_init(X)
        for b in (ours, theirs)
    )
    for _ in range(2):
        assert_same(model(X), reference(X))
