"""Constructors that get no plan: they run at each call, and the reason is noted."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs
from support.planning import plans, reasons, value_of

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}

# Models here are called without variables, to see what their constructor makes.
pytestmark = [
    pytest.mark.feature("plans"),
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]


class Unhashable:
    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __mul__(self, other):
        return self.value * other

    __rmul__ = __mul__


def test_unhashable_arguments_are_planned_by_what_they_hold():
    argument = Unhashable(2.0)

    class Model(nnx.Module):
        def __init__(self, argument, rngs):
            self.value = argument.value

        def __call__(self):
            return jnp.ones(1) * self.value

    model = ours.ToLinen(Model, args=(argument,))
    assert value_of(model) == 2.0
    argument.value = 3.0
    assert value_of(model) == 3.0
    assert value_of(model) == 3.0
    assert plans()["hits"] > 0
    assert plans()["rebuilt"] == {"argument.value": 1}


def test_array_arguments_are_not_planned():
    class Model(nnx.Module):
        def __init__(self, start, rngs):
            self.w = nnx.Param(start)

        def __call__(self):
            return self.w[...]

    for start in (1.0, 2.0):
        assert value_of(ours.ToLinen(Model, args=(jnp.full(1, start),))) == start
        assert value_of(ours.ToLinen(Model, args=(np.full(1, start),))) == start
    assert plans()["size"] == 0
    assert list(plans()["not_planned"]) == ["arguments that cannot be compared"]


def test_a_constructor_that_needs_concrete_values_is_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            w = jax.random.normal(rngs.params(), (3,))
            self.sign = "positive" if w[0] > 0 else "negative"

        def __call__(self):
            return self.sign

    model, reference = ours.ToLinen(Model), theirs.ToLinen(Model)
    for key in range(4):
        rngs = {"params": jax.random.key(key)}
        assert model.apply({}, rngs=rngs) == reference.apply({}, rngs=rngs)
    assert "cannot be traced" in reasons()


def test_a_constructor_that_captures_tracers_is_not_planned():
    class Model(nnx.Module):
        def __init__(self, w):
            self.w = nnx.Param(w)

        def __call__(self):
            return self.w[...]

    def make(scale):
        return ours.ToLinen(lambda rngs: Model(jnp.ones(3) * scale))

    held = []

    def make_by_global(scale):
        held[:] = [scale]
        return ours.ToLinen(lambda rngs: Model(jnp.ones(3) * held[0]), name="outer")

    with jax.checking_leaks():
        assert_same(jax.jit(lambda s: make(s).apply({}))(2.0), jnp.full(3, 2.0))
        out = jax.jit(lambda s: (make_by_global(s).apply({}), held.clear())[0])(3.0)
        assert_same(out, jnp.full(3, 3.0))
    assert "a class that cannot be compared" in reasons()


def test_a_constructor_with_effects_is_not_planned():
    printed = []

    class Model(nnx.Module):
        def __init__(self, rngs):
            jax.debug.callback(lambda: printed.append(1))
            self.w = nnx.Param(jnp.ones(3))

        def __call__(self):
            return self.w[...]

    model = ours.ToLinen(Model)
    for _ in range(2):
        model.apply({})
    jax.effects_barrier()
    assert len(printed) == 2
    assert "effects" in reasons()


class Register:
    """A mutable object of a type that nobody knows."""

    def __init__(self):
        self.calls = 0


def test_static_attributes_of_unknown_types_are_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.register = Register()

        def __call__(self):
            self.register.calls += 1
            return self.register.calls

    model = ours.ToLinen(Model)
    assert [model.apply({}) for _ in range(3)] == [1, 1, 1]
    assert "static attribute 'register' (an instance of Register) at (root)" in reasons()


def test_bound_methods_are_not_planned_and_closures_over_the_module_are():
    class Bound(nnx.Module):
        def __init__(self, rngs):
            self.w = nnx.Param(jnp.ones(3))
            self.run = self.double

        def double(self):
            return self.w[...] * 2

        def __call__(self):
            return self.run()

    class Closes(Bound):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.run = lambda: self.w[...] * 3

    given = {"params": {"w": jnp.full(3, 5.0)}}
    for cls, factor in ((Bound, 2), (Closes, 3)):
        for _ in range(2):
            assert_same(ours.ToLinen(cls).apply(given), jnp.full(3, 5.0 * factor))
    assert plans()["hits"] > 0
    assert reasons().count("static attribute 'run'") == 1


def test_linen_modules_that_the_constructor_makes_are_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.inner = nn.Dense(3, name="inner")

        def __call__(self, x):
            return self.inner(x)

    model = ours.ToLinen(Model)
    y, variables = model.init_with_output(RNGS, X)
    for _ in range(2):
        assert_same(model.apply(variables, X), y)
    assert "inner" in reasons()


def test_a_constructor_that_asks_about_linen_is_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.inside = ours.current_linen_module() is not None
            self.initializing = ours.is_linen_initializing()

        def __call__(self):
            return self.inside, self.initializing

    model = ours.ToLinen(Model)
    assert model.init_with_output(RNGS)[0] == (True, True)
    for _ in range(2):
        assert model.apply({}) == (True, False)
    assert "asks about Linen" in reasons()


def answers(ask):
    """Whether a Linen module that no module runs would refuse to answer."""
    try:
        ask()
    except ValueError:
        return False
    return True


WAYS_TO_ASK = {
    "our function": lambda: ours.current_linen_module() is not None,
    "Flax's function": lambda: nnx.bridge.wrappers.current_linen_module() is not None,
    "Linen's context": lambda: nn.module._context.module_stack[-1] is not None,
    "the parent of a new module": lambda: nn.Dense(3).parent is not None,
    "the name of a new module": lambda: nn.Dense(3).name is not None,
    "whether a new module is bound": lambda: answers(lambda: nn.Dense(3).has_rng("params")),
    "whether a new module initializes": lambda: answers(lambda: nn.Dense(3).is_initializing()),
    "the variables of a new module": lambda: answers(lambda: nn.Dense(3).variables),
    "one who draws too": lambda: [random.random(), nn.Dense(3).parent][1] is not None,
    "Flax's own modules": lambda: nnx.bridge.module.current_context() is None,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS_TO_ASK)
def test_whoever_asks_about_linen_gets_the_true_answer(way):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.inside = WAYS_TO_ASK[way]()

        def __call__(self, x):
            return x * (2.0 if self.inside else 3.0)

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            for _ in range(3):
                x = ours.ToLinen(Model)(x)
            return x

    for _ in range(3):
        assert_same(ours.ToLinen(Model).apply({}, X), X * 2.0)
        assert_same(jax.jit(Layers().init_with_output)(RNGS, X)[0], X * 8.0)


def test_objects_that_the_constructor_did_not_make_are_not_planned():
    shared = nnx.Linear(3, 3, rngs=nnx.Rngs(0))

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = shared

        def __call__(self, x):
            return self.layer is shared

    assert [ours.ToLinen(Model).apply({}, X) for _ in range(2)] == [True, True]
    assert "did not make" in reasons()
