"""Functions, classes and modules that a constructor makes are others for each layer, and other
objects than the trace of one layer has seen."""

import functools
import types
import typing as tp

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from plans.test_repeated_calls import KEYS, staged
from support.oracle import assert_same, ours, theirs
from support.planning import COUNTS, LOG, plans, without_plans

X = jnp.ones((2, 3))
SCALE = [1.0]
SEEN: list[tp.Any] = []

pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]


class Holder(nnx.Module):
    """Keeps what `make` returns, in the way that `keep` says."""

    def __init__(self, make: tp.Callable[[], tp.Any], keep: str, *, rngs: nnx.Rngs) -> None:
        LOG.info("holder")
        self.keep = keep
        made = make()
        self.w = nnx.Param(rngs.params.normal((2,)))
        if keep == "attribute":
            self.kept = made
        elif keep == "metadata":
            self.v = nnx.Variable(jnp.ones(2), kept=made)
        elif keep == "list":
            self.kept = nnx.static([made])
        elif keep == "tuple":
            self.kept = nnx.static((made,))
        elif keep == "closure":
            self.kept = lambda: made
        else:
            self.kept = self.again = made

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = self.v.get_metadata()["kept"] if hasattr(self, "v") else self.kept
        if isinstance(kept, list | tuple):
            kept = kept[0]
        if self.keep == "closure":
            kept = kept()
        if isinstance(kept, types.ModuleType | type):
            kept.notes = [*getattr(kept, "notes", []), 1]
            SEEN.append(len(kept.notes))
            return x
        if getattr(kept, "__kwdefaults__", None):
            kept.__kwdefaults__["scale"] += 1
        if isinstance(kept, functools.partial):
            SEEN.append(dict(kept.keywords))
            kept.keywords.update(dict.fromkeys(kept.keywords, False))
        try:
            SEEN.append(getattr(kept, "number", 0))
            kept.number = getattr(kept, "number", 0) + 1
        except AttributeError:
            SEEN.append("no attributes")
        SEEN.append(getattr(self, "again", kept) is kept)
        return kept(x)


def traced(x: jax.Array) -> jax.Array:
    SEEN.append("traced")
    return x * SCALE[0]


def with_default() -> tp.Callable[..., tp.Any]:
    def function(x, *, scale=2):
        return x * scale * SCALE[0]

    return function


def scanning() -> tp.Callable[..., tp.Any]:
    def body(x, _):
        return x * SCALE[0], None

    return lambda x: jax.lax.scan(body, x, None, 2)[0]


def custom() -> tp.Callable[..., tp.Any]:
    made = jax.custom_jvp(lambda x: traced(x))
    made.defjvps(lambda tangent, _, x: tangent)
    return made


def closing() -> tp.Callable[..., tp.Any]:
    factor = 3
    return lambda x: x * factor * SCALE[0]


def double(x: jax.Array) -> jax.Array:
    return x * 2


def with_a_number(function: tp.Callable[..., tp.Any]) -> tp.Callable[..., tp.Any]:
    made = functools.partial(function)
    made.number = 3
    return made


def tangent_of_double(primals: tp.Any, tangents: tp.Any) -> tp.Any:
    return primals[0] * 2, tangents[0] * 2


def forward(x: jax.Array) -> tp.Any:
    return x * 2, None


def backward(_: None, g: jax.Array) -> tp.Any:
    return (g * 2,)


def custom_jvp_of_a_global_one() -> tp.Callable[..., tp.Any]:
    made = jax.custom_jvp(double)
    made.defjvp(tangent_of_double)
    return made


def custom_vjp_of_a_global_one() -> tp.Callable[..., tp.Any]:
    made = jax.custom_vjp(double)
    made.defvjp(forward, backward)
    return made


class Fixed:
    def double(self, x: jax.Array) -> jax.Array:
        return x * 2


FIXED = Fixed()

MADE: dict[str, tp.Callable[[], tp.Any]] = {
    "lambda": lambda: lambda x: x * SCALE[0],
    "closing": closing,
    "with_default": with_default,
    "scanning": scanning,
    "partial": lambda: functools.partial(lambda scale, x: x * scale * SCALE[0], 2),
    "jit": lambda: jax.jit(lambda x: traced(x)),
    "checkpoint": lambda: jax.checkpoint(lambda x: traced(x)),
    "custom": custom,
    "vmapped": lambda: jax.vmap(lambda x: traced(x)),
    "vectorized": lambda: jnp.vectorize(lambda x: traced(x)),
    "ufunc": lambda: jnp.frompyfunc(lambda x: x * SCALE[0], 1, 1),
    "nnx.jit": lambda: nnx.jit(lambda x: traced(x)),
    "partial of a global one": lambda: functools.partial(jax.nn.relu),
    "with keywords": lambda: functools.partial(jax.nn.gelu, approximate=True),
    "of a partial": lambda: functools.partial(with_a_number(jax.nn.gelu), approximate=True),
    "jit of a global one": lambda: jax.jit(jax.nn.relu),
    "jit of a partial": lambda: jax.jit(functools.partial(jax.nn.gelu, approximate=True)),
    "custom_jvp of a global one": custom_jvp_of_a_global_one,
    "custom_vjp of a global one": custom_vjp_of_a_global_one,
    "checkpoint of a global one": lambda: jax.checkpoint(jax.nn.relu),
    "vectorized global one": lambda: jnp.vectorize(jax.nn.relu),
    "ufunc of a global one": lambda: jnp.frompyfunc(double, 1, 1),
    "nnx.jit of a global one": lambda: nnx.jit(jax.nn.relu),
    "method of a module": lambda: FIXED.double,
    "class": lambda: type("Made", (), {"notes": []}),
    "module": lambda: types.ModuleType("made"),
}
KEEPS = ("attribute", "twice", "metadata", "list", "tuple", "closure")


def layers(bridge: tp.Any, make: tp.Callable[[], tp.Any], keep: str) -> nn.Module:
    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            for name in ("a", "b", "c"):
                x = bridge.ToLinen(Holder, args=(make, keep), name=name)(x)
            return x

    return Layers()


def run(bridge: tp.Any, make: tp.Callable[[], tp.Any], keep: str) -> list[tp.Any]:
    SEEN.clear()
    outputs = []
    model = layers(bridge, make, keep)
    for scale in (1.0, 2.0):
        SCALE[0] = scale
        made, variables = staged(lambda keys: model.init_with_output(keys, X), KEYS)
        outputs.append(made)
        outputs.append(staged(model.apply, variables, X))
        outputs.append(model.apply(variables, X))
    SCALE[0] = 1.0
    return [outputs, list(map(str, SEEN))]


@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("kind", MADE)
def test_each_layer_has_its_own(kind, keep):
    with without_plans():
        expected = run(theirs, MADE[kind], keep)
    assert_same(run(ours, MADE[kind], keep), expected)
    assert_same(run(ours, MADE[kind], keep), expected)


@pytest.mark.feature("plans")
@pytest.mark.feature("repeated_calls")
@pytest.mark.parametrize("kind", ["lambda", "closing", "with_default", "partial of a global one"])
def test_functions_are_copied_and_the_layers_planned(kind):
    model = layers(ours, MADE[kind], "attribute")
    before = COUNTS["holder"]
    for _ in range(2):
        jax.eval_shape(lambda keys: model.init(keys, X), KEYS)
    assert COUNTS["holder"] == before + 1
    assert plans()["not_planned"] == {}


@pytest.mark.filterwarnings("ignore:Found unknown module paths")  # of Flax's bridge
@pytest.mark.parametrize("value", [None, (None, jnp.ones(2)), {"a": None}], ids=str)
def test_a_variable_without_a_value(value):
    class Empty(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            self.v = nnx.Cache(value)
            self.w = nnx.Param(rngs.params.normal((2,)))

        def __call__(self, x: jax.Array) -> jax.Array:
            return x + self.w.sum()

    def made(bridge):
        class Layers(nn.Module):
            @nn.compact
            def __call__(self, x):
                return bridge.ToLinen(Empty)(bridge.ToLinen(Empty)(x))

        first = staged(lambda keys: Layers().init_with_output(keys, X), KEYS)
        return first, staged(Layers().apply, first[1], X), Layers().apply(first[1], X)

    expected = made(theirs)
    for _ in range(2):
        assert_same(made(ours), expected)


class Raises:
    def __getattribute__(self, name: str) -> tp.Any:
        if name == "__class__":
            raise ZeroDivisionError(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("keep", ["metadata", "closure"])
def test_an_object_that_raises_when_it_is_looked_at(keep):
    class Odd(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            raises = Raises()
            self.w = nnx.Param(rngs.params.normal((2,)))
            if keep == "metadata":
                self.v = nnx.Variable(jnp.ones(2), note=raises)
            else:
                self.f = lambda: raises

        def __call__(self, x: jax.Array) -> jax.Array:
            return x + self.w.sum()

    def made(bridge):
        model = bridge.ToLinen(Odd)
        return [staged(lambda keys: model.init(keys, X)["params"], KEYS) for _ in range(3)]

    assert_same(made(ours), made(theirs))


@pytest.mark.parametrize("length", [1, 3])
def test_a_constant_of_a_module_that_was_deleted(length):
    kept: list[jax.Array] = []

    class Constant(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            with jax.ensure_compile_time_eval():
                self.v = nnx.BatchStat(jnp.arange(3.0) + 1)
            self.w = nnx.Param(rngs.params.normal((2,)))

        def __call__(self, x: jax.Array) -> jax.Array:
            kept.append(self.v.get_raw_value())
            return x + self.v[...]

    def made(bridge):
        class Layers(nn.Module):
            @nn.compact
            def __call__(self, x):
                for _ in range(length):
                    x = bridge.ToLinen(Constant)(x)
                return x

        results = []
        for _ in range(4):
            results.append(jax.jit(Layers().init_with_output)(KEYS, X))
            results.append(jax.jit(Layers().apply)({}, X, rngs=KEYS))
            results.append(Layers().apply({}, X, rngs=KEYS))
            results = jax.tree.map(jnp.array, results)
            for array in kept:
                if not isinstance(array, jax.core.Tracer) and not array.is_deleted():
                    array.delete()
            kept.clear()
        return results

    assert_same(made(ours), made(theirs))


GLOBAL = functools.partial(jax.nn.gelu, approximate=True)
GLOBAL_JIT = jax.jit(double)
TABLE = {"partial": GLOBAL, "jit": GLOBAL_JIT}


class Config:
    def __init__(self, kept: tp.Any) -> None:
        self.kept = kept


@pytest.mark.parametrize("made", [GLOBAL, GLOBAL_JIT], ids=["partial", "jit"])
@pytest.mark.parametrize("place", ["argument", "attribute", "global", "table", "in a list"])
def test_what_existed_before_stays_itself(made, place):
    class Keeps(nnx.Module):
        def __init__(self, given: tp.Any, *, rngs: nnx.Rngs) -> None:
            if place == "global":
                self.kept = GLOBAL if made is GLOBAL else GLOBAL_JIT
            elif place == "table":
                self.kept = TABLE["partial" if made is GLOBAL else "jit"]
            elif place == "attribute":
                self.kept = given.kept
            elif place == "in a list":
                (self.kept,) = given
            else:
                self.kept = given
            self.w = nnx.Param(rngs.params.normal((2,)))

        def __call__(self, x: jax.Array) -> jax.Array:
            SEEN.append(self.kept is made)
            return x

    SEEN.clear()
    given = {"attribute": Config(made), "in a list": [made]}.get(place, made)
    layer = ours.ToLinen(Keeps, args=(given,))
    variables = layer.init(KEYS, X)
    for _ in range(3):
        layer.apply(variables, X)
    assert SEEN == [True] * 4
    assert plans()["not_planned"] == {}
