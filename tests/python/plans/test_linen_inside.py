"""Linen modules that a planned constructor makes: they are named, owned and seen as with Flax."""

import contextlib
import dataclasses
import functools
import typing as tp
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs
from support.planning import plans, reasons

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0)}
TOLD: list[tp.Any] = []  # by calls of Outer

pytestmark = [pytest.mark.feature("plans"), pytest.mark.usefixtures("fresh_caches")]


class Named(nn.Module):
    """Sows under its own name."""

    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", f"in_{self.name}", x.sum())
        return nn.Dense(3)(x)


ONES = nn.initializers.ones
RematNamed = nn.remat(Named)


class Plain(nn.Module):
    """Does not ask for its name."""

    scale: tp.Any = 1.0
    inner: nn.Module | None = None

    @nn.compact
    def __call__(self, x):
        if self.inner is not None:
            x = self.inner(x)
        return nn.Dense(3)(x) * jnp.asarray(self.scale)


def linen_module_of(wrapper):
    return wrapper.to_nnx__module if hasattr(wrapper, "to_nnx__module") else wrapper.module


def place_of(module):
    parent = type(module.parent).__name__ if module.parent is not None else None
    place = module.name, parent, None if module.scope is None else module.scope.path
    inner = getattr(module, "inner", None)
    return place if inner is None else (*place, place_of(inner))


def wraps(b, rngs, *modules):
    return nnx.List([b.ToNNX(module, rngs=rngs).lazy_init(X) for module in modules])


def one_twice(b, rngs):
    module = Plain()
    return wraps(b, rngs, module, module)


def after_another(b, rngs):
    Plain()
    return wraps(b, rngs, Plain())


def in_reverse(b, rngs):
    first, second = Plain(), Plain()
    return wraps(b, rngs, second, first)


MODULES = {
    "one": lambda b, rngs: wraps(b, rngs, Plain()),
    "one that reads its name": lambda b, rngs: wraps(b, rngs, Named()),
    "two": lambda b, rngs: wraps(b, rngs, Plain(), Plain()),
    "two that read their names": lambda b, rngs: wraps(b, rngs, Named(), Named()),
    "two in the other order": in_reverse,
    "one in two places": one_twice,
    "one after another": after_another,
    "of two classes": lambda b, rngs: wraps(b, rngs, Named(), Plain()),
    "with a name": lambda b, rngs: wraps(b, rngs, Plain(name="own")),
    "with a module as a field": lambda b, rngs: wraps(b, rngs, Plain(inner=nn.Dense(3))),
    "with two levels": lambda b, rngs: wraps(b, rngs, Plain(inner=Plain(inner=Named()))),
    "of Flax": lambda b, rngs: wraps(b, rngs, nn.Dense(3), nn.Sequential([nn.Dense(3)])),
    "transformed": lambda b, rngs: wraps(b, rngs, RematNamed()),
    "with a function": lambda b, rngs: wraps(b, rngs, nn.Dense(3, kernel_init=ONES)),
}  # fmt: skip


class Outer(nnx.Module):
    """Tells, when it is called, where its Linen modules belong."""

    def __init__(self, b, make, rngs):
        self.wrapped = make(b, rngs)

    def __call__(self, x):
        for wrapper in self.wrapped:
            TOLD.append(place_of(linen_module_of(wrapper)))
            x = wrapper(x)
        return x


class InLinen(nn.Module):
    """Other modules stand before it and after it."""

    make_layer: tp.Any

    @nn.compact
    def __call__(self, x):
        return Plain()(self.make_layer(name="layer")(Plain()(x)))


def layer_of(b, make):
    return functools.partial(b.ToLinen, Outer, args=(b, make))


def calls_of(model):
    """The results of calls, and what they told: eager and staged, cold and warm."""
    variables = model.init(RNGS, X)
    found = []
    for _ in range(2):
        for run in (
            model.apply,
            jax.jit(functools.partial(model.apply, mutable=["intermediates"])),
        ):
            TOLD.clear()
            found.append((run(variables, X), list(TOLD)))
    return variables, found


@pytest.mark.parametrize("place", ["alone", "in a Linen module"])
@pytest.mark.parametrize("kind", MODULES)
def test_they_have_the_names_and_the_parents_that_flax_gives_them(kind, place):
    results = []
    for b in (ours, theirs):
        layer = layer_of(b, MODULES[kind])
        results.append(calls_of(layer() if place == "alone" else InLinen(layer)))
    assert_same(results[0][0], results[1][0])
    for (mine, told), (expected, told_by_flax) in zip(results[0][1], results[1][1], strict=True):
        assert_same(mine, expected)
        assert told == told_by_flax
    assert plans()["hits"] > 0
    assert reasons() == ""


def test_a_module_that_first_runs_in_the_call_has_its_name():
    class Late(nnx.Module):
        def __init__(self, b, rngs):
            self.inner = b.ToNNX(Named(), rngs=rngs)

        def __call__(self, x):
            self.inner.lazy_init(x)
            return self.inner(x)

    names = []
    for b in (ours, theirs):
        model = b.ToLinen(Late, args=(b,))
        variables = model.init(RNGS, X)
        for _ in range(2):
            updates = model.apply(variables, X, mutable=["intermediates"])[1]
            names.append(list(updates["intermediates"]["inner"]))
    assert names == [["in_Named_0"]] * 4
    assert plans()["hits"] > 0


ASKS = {
    "variables": lambda module: len(module.variables),
    "scope": lambda module: module.scope.mutable,
    "parent": lambda module: module.parent.name,
    "path": lambda module: module.path,
    "is_initializing": lambda module: module.is_initializing(),
    "has_rng": lambda module: module.has_rng("dropout"),
    "has_variable": lambda module: module.has_variable("params", "w"),
}


@pytest.mark.parametrize("what", ASKS)
def test_a_constructor_that_asks_where_its_module_belongs_is_not_planned(what):
    class Asks(nnx.Module):
        def __init__(self, b, rngs):
            self.answer = ASKS[what](linen_module_of(b.ToNNX(Plain(), rngs=rngs)))

        def __call__(self, x):
            return self.answer

    class Holds(nn.Module):
        make: tp.Any

        @nn.compact
        def __call__(self, x):
            return self.make(name="layer")(x)

    key = jax.random.key(1)
    for name in ("layer", "other"):
        answers = []
        for b in (ours, theirs):
            model = Holds(functools.partial(b.ToLinen, Asks, args=(b,)))
            answers.append(
                [model.apply({}, X, rngs=rngs) for rngs in ({}, {"dropout": key}) for _ in range(2)]
            )
        assert answers[0] == answers[1], name
    assert plans()["hits"] == 0
    assert "asks about Linen's context" in reasons()


def test_code_inside_the_module_may_ask():
    class Asks(nn.Module):
        @nn.compact
        def __call__(self, x):
            if self.is_initializing() and not self.has_variable("cache", "x"):
                self.variable("cache", "x", jnp.zeros, self.path or (1,))
            return nn.Dense(3)(x) if self.has_rng("params") or self.variables else x

    results = []
    for b in (ours, theirs):
        results.append(calls_of(layer_of(b, lambda b, rngs: wraps(b, rngs, Asks()))()))
    assert_same(results[0][0], results[1][0])
    for mine, expected in zip(results[0][1], results[1][1], strict=True):
        assert_same(mine[0], expected[0])
    assert plans()["hits"] > 0
    assert reasons() == ""


class Register:
    """A mutable object of a type that nobody knows."""

    def __mul__(self, other):
        self.calls = getattr(self, "calls", 0) + 1
        return other * self.calls

    __rmul__ = __mul__


CONSTANT = jnp.full(3, 2.0)
FIELDS = {
    "a number": (lambda: 2.0, True),
    "a tuple": (lambda: (1.0, 2.0, 3.0), True),
    "a list": (lambda: [1.0, 2.0, 3.0], True),
    "an array": (lambda: CONSTANT, True),
    "an array that it computes": (lambda: CONSTANT * 2, False),
    "a tuple of such arrays": (lambda: (CONSTANT[0] * 2,) * 3, False),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_with_what_the_constructor_made_keep_no_value_of_its_trace(kind):
    make, is_planned = FIELDS[kind]
    results = []
    for b in (ours, theirs):
        layer = layer_of(b, lambda b, rngs: wraps(b, rngs, Plain(scale=make())))
        # JAX's check would see the values of a trace that is given up.
        with jax.checking_leaks() if is_planned else contextlib.nullcontext():
            results.append(calls_of(layer()))
    for (mine, _), (expected, _) in zip(results[0][1], results[1][1], strict=True):
        assert_same(mine, expected)
    assert (plans()["hits"] > 0) == is_planned
    assert ("to_nnx__module" in reasons()) != is_planned


def test_a_field_with_a_mutable_object_is_made_anew_in_each_call():
    class Counts(nn.Module):
        register: tp.Any

        @nn.compact
        def __call__(self, x):
            return self.register * x

    def outputs(b):
        model = layer_of(b, lambda b, rngs: wraps(b, rngs, Counts(Register())))()
        return [model.apply({}, X) for _ in range(3)]

    assert_same(outputs(ours), outputs(theirs))
    assert "to_nnx__module" in reasons()


def test_an_interceptor_sees_what_the_constructor_runs():
    def seen_by(b, is_inside_first):
        model = layer_of(b, MODULES["two"])()
        variables = model.init(RNGS, X)
        seen = []

        def interceptor(method, args, kwargs, context):
            if context.method_name == "__call__" and not isinstance(context.module, b.ToLinen):
                seen.append((type(context.module).__name__, context.module.name))
            return method(*args, **kwargs)

        for inside in (is_inside_first, not is_inside_first) * 2:
            if inside:
                with nn.intercept_methods(interceptor):
                    model.apply(variables, X)
            else:
                model.apply(variables, X)
        return seen

    for is_inside_first in (True, False):
        mine, expected = (seen_by(b, is_inside_first) for b in (ours, theirs))
        # Ours runs a constructor twice where it finds that it cannot be planned.
        assert mine[-len(expected) // 2 :] == expected[-len(expected) // 2 :]
        assert set(mine) == set(expected)


class Doubled(nn.Module):
    """Its fields are not what it was given."""

    features: int = 2

    def __post_init__(self):
        self.features = self.features * 2
        super().__post_init__()

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)


class Adds(nn.Module):
    kept: tp.Any

    def __call__(self, x):
        for one in self.kept if isinstance(self.kept, tuple) else (self.kept,):
            one.add(len(one))
            x = x * len(one)
        return x


class AddsInPlace(nn.Module):
    kept: tp.Any

    def __call__(self, x):
        self.kept[0] += 1
        return x * float(self.kept[0])


def noted():
    module = nn.Dense(3)
    object.__setattr__(module, "note", 5)
    return module


class Set(nn.Module):
    """A field that __init__ does not take."""

    note: float = dataclasses.field(init=False, default=1.0)

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x) * self.note


def set_later():
    module = Set()
    object.__setattr__(module, "note", 5.0)
    return module


class Clones(nn.Module):
    note: float = 1.0

    def clone(self, **updates):
        return super().clone(**{**updates, "note": self.note * 2})

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x) * self.note


MORE_THAN_FIELDS = {
    "__post_init__": Doubled,
    "a set": lambda: Adds(set()),
    "a tuple of a set": lambda: Adds((set(),)),
    "an array of NumPy": lambda: AddsInPlace(np.zeros(1)),
    "another attribute": noted,
    "a field without init": set_later,
    "clone": Clones,
}


@pytest.mark.parametrize("kind", MORE_THAN_FIELDS)
def test_modules_that_are_more_than_their_fields_are_made_by_each_call(kind):
    make = MORE_THAN_FIELDS[kind]

    class Notes(Outer):
        def __call__(self, x):
            notes = [getattr(linen_module_of(one), "note", None) for one in self.wrapped]
            return super().__call__(x), notes

    results = []
    for b in (ours, theirs):
        model = b.ToLinen(Notes, args=(b, lambda b, rngs: wraps(b, rngs, make())))
        variables = model.init(RNGS, X)
        results.append([model.apply(variables, X) for _ in range(3)])
    assert_same(*results)


class Asking(nn.Module):
    """Runs inside of the module that makes it."""

    what: str

    def __call__(self, x):
        answers = {
            "has_rng": lambda: self.has_rng("dropout"),
            "initializing": self.is_initializing,
            "mutable": lambda: self.is_mutable_collection("cache"),
            "path": lambda: len(self.path) > 1,
            "parent": lambda: type(self.parent).__name__ == "ToLinen",
        }
        return x * (2.0 if answers[self.what]() else 3.0)


class Sows(nn.Module):
    what: str

    @nn.compact
    def __call__(self, x):
        self.sow("cache", "seen", x)
        return x


@pytest.mark.filterwarnings("ignore:Found unknown module paths")  # of Flax: what is sown is unknown
@pytest.mark.parametrize("cls", [Asking, Sows])
@pytest.mark.parametrize("what", ["has_rng", "initializing", "mutable", "path", "parent"])
def test_a_linen_module_that_the_constructor_runs_itself_has_the_scope_of_the_caller(cls, what):
    class Runs(nnx.Module):
        def __init__(self, rngs):
            self.value = nnx.BatchStat(cls(what)(jnp.ones(4)))

        def __call__(self):
            return self.value[...]

    results = []
    for b in (ours, theirs):
        for keys in (RNGS, RNGS | {"dropout": jax.random.key(1)}):
            for mutable in (False, ["cache"]):
                run = functools.partial(b.ToLinen(Runs).apply, {}, mutable=mutable)
                results += [jax.jit(lambda k, run=run: run(rngs=k))(keys) for _ in range(2)]
        init = b.ToLinen(Runs).init
        results += [jax.jit(lambda k, init=init: init(k))(RNGS) for _ in range(2)]
    half = len(results) // 2
    assert_same(results[:half], results[half:])


def test_a_subclass_that_names_modules_before_the_constructor_runs():
    class Holds(nnx.Module):
        def __init__(self, b, rngs):
            self.inner = b.ToNNX(nn.Dense(3), rngs=rngs).lazy_init(X)

        def __call__(self, x):
            return self.inner(x)

    outputs = []
    for b in (ours, theirs):

        class Subclass(b.ToLinen):
            @nn.compact
            def __call__(self, x):
                return super().__call__(nn.Dense(3)(x) if x.shape[0] > 1 else x)

        model = Subclass(Holds, args=(b,))
        variables = model.init(RNGS, X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Flax: the paths of the Linen module are unknown
            for given in (X, X[:1], X):
                outputs.append(jax.jit(model.apply)(variables, given))
    assert_same(outputs[:3], outputs[3:])


class Writes(nn.Module):
    """Tells whether it may write."""

    @nn.compact
    def __call__(self, x):
        self.variable("state", "calls", jnp.zeros, ())
        return x * (2.0 if self.is_mutable_collection("state") else 3.0)


def test_a_constructor_that_calls_a_module_has_the_filter_of_the_caller():
    class Calls(nnx.Module):
        def __init__(self, b, rngs):
            self.start = b.ToNNX(Writes(), rngs=rngs).lazy_init(X)(X).sum()

        def __call__(self, x):
            return x + self.start

    for mutable in (False, ["state"], ["other"], False):
        mine, expected = (
            [b.ToLinen(Calls, args=(b,)).apply({}, X, mutable=mutable) for _ in range(2)]
            for b in (ours, theirs)
        )
        assert_same(mine, expected)
