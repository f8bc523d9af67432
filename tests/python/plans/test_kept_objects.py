"""What a constructor keeps is its own or what existed before, as with Flax's bridge: code that runs
later sees it, changes it, or asks which object it is."""

import dataclasses
import functools
import typing as tp
import weakref

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs
from support.planning import plans

pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]

X = jnp.arange(3.0)
KEY = jax.random.key(0)


def scaled(x: tp.Any = 1, **_: tp.Any) -> tp.Any:
    return x


@dataclasses.dataclass(frozen=True)
class Frequencies:
    dim: int = 3
    name: str = "f"

    @functools.cached_property
    def all(self) -> jax.Array:
        return jnp.arange(self.dim) * 2.0

    @functools.cached_property
    def calls(self) -> list[int]:
        return []


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    memo: tp.Any = None


class MoreSlots(Frequencies):
    __slots__ = ("memo",)


@dataclasses.dataclass(frozen=True)
class OfClass:
    table: tp.ClassVar[dict[str, int]] = {"a": 1}
    dim: int = 3


@dataclasses.dataclass(frozen=True)
class Text(str):
    number: int = 1


@dataclasses.dataclass(frozen=True)
class Items(dict[str, int]):
    pass


@dataclasses.dataclass(frozen=True)
class Failure(Exception):
    code: int = 4


@dataclasses.dataclass(frozen=True)
class Holds:
    held: tp.Any


GLOBAL_LIST = [1]
GLOBAL_TUPLE = (1, 2)
GLOBAL_PARTIAL = functools.partial(scaled, k=1)
GLOBAL_FREQUENCIES = Frequencies()
WATCHED: "weakref.WeakSet[tp.Any]" = weakref.WeakSet()


def passed_on(value: tp.Any) -> tp.Any:
    return value


@functools.cache
def cached_partial() -> tp.Any:
    return functools.partial(scaled, k=1)


@functools.cache
def cached_list() -> list[int]:
    return [1]


@functools.lru_cache(8)
def bounded_partial() -> tp.Any:
    return functools.partial(scaled, k=1)


def holds_itself() -> tp.Any:
    partial = functools.partial(scaled, k=1)
    partial.keywords["me"] = partial
    return partial


def has_itself() -> tp.Any:
    partial = functools.partial(scaled, k=1)
    partial.me = partial
    return partial


def with_a_number() -> tp.Any:
    partial = functools.partial(scaled, k=1)
    partial.keywords[3] = 4
    return partial


def watched() -> tp.Any:
    partial = functools.partial(scaled, k=1)
    WATCHED.add(partial)
    return partial


def flat(kept: tp.Any) -> tp.Any:
    outer = functools.partial(kept, 2)
    return outer.func is scaled, outer.keywords


def count(kept: tp.Any) -> int:
    number = getattr(kept, "number", 0) + 1
    object.__setattr__(kept, "number", number)
    return number


def remember(kept: tp.Any) -> int:
    object.__setattr__(kept, "memo", (getattr(kept, "memo", None) or 0) + 1)
    return kept.memo


def items() -> tp.Any:
    made = Items()
    made["a"] = 1
    return made


def add_keyword(kept: tp.Any) -> tp.Any:
    kept.keywords["more"] = kept.keywords.get("more", 0) + 1
    return dict(kept.keywords).get("more")


# What the constructor keeps, and what the call does with it.
CASES: dict[str, tuple[tp.Callable[[], tp.Any], tp.Callable[[tp.Any], tp.Any]]] = {
    "a remembered array of a dataclass": (Frequencies, lambda kept: kept.all.sum()),
    "a remembered list of a dataclass": (
        Frequencies,
        lambda kept: kept.calls.append(1) or len(kept.calls),
    ),
    "an attribute of a dataclass": (Frequencies, count),
    "a dataclass from elsewhere": (lambda: passed_on(Frequencies()), count),
    "a copy of a dataclass": (lambda: dataclasses.replace(GLOBAL_FREQUENCIES, dim=4), count),
    "dataclasses in a list": (lambda: [Frequencies(), Frequencies()], lambda kept: count(kept[1])),
    "a dataclass in a tuple": (lambda: (Frequencies(),), lambda kept: count(kept[0])),
    "a dataclass with slots": (Slotted, remember),
    "a dataclass with slots in a list": (lambda: [Slotted(2)], lambda kept: remember(kept[0])),
    "a dataclass with more slots": (MoreSlots, remember),
    "a dataclass with a variable of the class": (
        OfClass,
        lambda kept: (kept.table is OfClass.table, count(kept)),
    ),
    "a text that is a dataclass": (lambda: Text("5"), lambda kept: (str(kept), kept.number)),
    "a dict that is a dataclass": (items, lambda kept: (dict(kept), count(kept))),
    "an error that is a dataclass": (
        Failure,
        lambda kept: (kept.args, isinstance(repr(kept), str)),
    ),
    "a dataclass of a dataclass": (lambda: Holds(Frequencies()), lambda kept: count(kept.held)),
    "a dataclass of a partial": (
        lambda: Holds(functools.partial(scaled, k=1)),
        lambda kept: add_keyword(kept.held),
    ),
    "a dataclass of a list of dataclasses": (
        lambda: Holds([Frequencies(), GLOBAL_FREQUENCIES]),
        lambda kept: (count(kept.held[0]), kept.held[1] is GLOBAL_FREQUENCIES),
    ),
    "a dataclass twice in a dataclass": (
        lambda: Holds((Frequencies(),) * 2),
        lambda kept: (count(kept.held[0]), count(kept.held[1])),
    ),
    "a dataclass of a global list": (
        lambda: Holds(GLOBAL_LIST),
        lambda kept: (kept.held is GLOBAL_LIST, count(kept)),
    ),
    "a global dataclass": (
        lambda: GLOBAL_FREQUENCIES,
        lambda kept: kept is GLOBAL_FREQUENCIES,
    ),
    "a partial of a global list": (
        lambda: functools.partial(scaled, table=GLOBAL_LIST),
        lambda kept: (kept.keywords["table"] is GLOBAL_LIST, add_keyword(kept)),
    ),
    "a partial of a global partial": (
        lambda: functools.partial(scaled, GLOBAL_PARTIAL),
        lambda kept: (kept.args[0] is GLOBAL_PARTIAL, add_keyword(kept)),
    ),
    "a partial of an own dataclass": (
        lambda: functools.partial(scaled, Frequencies()),
        lambda kept: count(kept.args[0]),
    ),
    "a partial of an own list": (
        lambda: functools.partial(scaled, [1]),
        lambda kept: kept.args[0].append(1) or len(kept.args[0]),
    ),
    "a partial from elsewhere": (lambda: passed_on(functools.partial(scaled, k=1)), add_keyword),
    "a partial in a set": (
        lambda: {functools.partial(scaled, k=1)},
        lambda kept: add_keyword(next(iter(kept))),
    ),
    "a partial as a key": (
        lambda: {functools.partial(scaled, k=1): 1},
        lambda kept: add_keyword(next(iter(kept))),
    ),
    "a partial in a tuple in a set": (
        lambda: {(functools.partial(scaled, k=1),)},
        lambda kept: add_keyword(next(iter(kept))[0]),
    ),
    "a partial that holds itself": (
        holds_itself,
        lambda kept: (kept.keywords["me"] is kept, add_keyword(kept)),
    ),
    "a partial that has itself": (has_itself, lambda kept: (kept.me is kept, add_keyword(kept))),
    "a partial with a number for a keyword": (with_a_number, add_keyword),
    "a partial of a partial": (lambda: functools.partial(scaled, k=1), flat),
    "a partial of a global one": (lambda: GLOBAL_PARTIAL, flat),
    "a partial with a weak reference": (watched, lambda kept: kept in WATCHED),
    "the partial that a cache keeps": (cached_partial, lambda kept: kept is cached_partial()),
    "the list that a cache keeps": (cached_list, lambda kept: kept is cached_list()),
    "the partial that a bounded cache keeps": (
        bounded_partial,
        lambda kept: kept is bounded_partial(),
    ),
    "a global list in a list": (
        lambda: [GLOBAL_LIST, [1]],
        lambda kept: (kept[0] is GLOBAL_LIST, kept[1].append(1) or len(kept[1])),
    ),
    "a global list in a dict": (lambda: {"k": GLOBAL_LIST}, lambda kept: kept["k"] is GLOBAL_LIST),
    "a global list in a tuple": (lambda: (GLOBAL_LIST, 1), lambda kept: kept[0] is GLOBAL_LIST),
    "a global tuple in a list": (lambda: [GLOBAL_TUPLE], lambda kept: kept[0] is GLOBAL_TUPLE),
    "a global partial in a list": (
        lambda: [GLOBAL_PARTIAL],
        lambda kept: kept[0] is GLOBAL_PARTIAL,
    ),
    "a global dataclass in a list": (
        lambda: [GLOBAL_FREQUENCIES],
        lambda kept: kept[0] is GLOBAL_FREQUENCIES,
    ),
}


class Keeps(nnx.Module):
    def __init__(self, make: tp.Any, use: tp.Any, place: str, *, rngs: nnx.Rngs) -> None:
        made = make()
        self.w = nnx.Param(rngs.params.normal((3,)))
        self.use = use
        if place == "metadata":
            self.v = nnx.Variable(jnp.ones(()), kept=made)
        else:
            self.kept = nnx.static(made)
            if place == "twice":
                self.again = nnx.static([made])

    def __call__(self, x: jax.Array) -> jax.Array:
        kept = self.v.get_metadata()["kept"] if hasattr(self, "v") else self.kept
        same = self.again[0] is kept if hasattr(self, "again") else None
        SEEN.append(jax.tree.map(str, (self.use(kept), same)))
        return x * self.w


SEEN: list[tp.Any] = []


def seen(bridge: tp.Any, name: str, place: str) -> tuple[tp.Any, list[tp.Any]]:
    SEEN.clear()
    layer = functools.partial(bridge.ToLinen, Keeps, args=(*CASES[name], place))

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for name in ("a", "b", "c"):
                x = layer(name=name)(x)
            return x

    variables = theirs.ToLinen(Keeps, args=(int, str, "attribute")).init(KEY, X)
    results = [layer().apply(variables, X) for _ in range(3)]
    results.append(jax.make_jaxpr(layer().apply)(variables, X).out_avals)
    for _ in range(2):
        jax.eval_shape(Layers().init, KEY, X)
        results.append(Layers().apply({}, X, rngs={"params": KEY}))
    return results, list(SEEN)


@pytest.mark.parametrize("place", ["attribute", "twice", "metadata"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_kept_is_what_flax_keeps(name, place):
    expected, expected_seen = seen(theirs, name, place)
    result, result_seen = seen(ours, name, place)
    assert_same(result, expected)
    assert result_seen == expected_seen


@pytest.mark.feature("plans")
@pytest.mark.parametrize(
    "name",
    [
        "a remembered array of a dataclass",
        "dataclasses in a list",
        "a dataclass with slots",
        "a dataclass with a variable of the class",
        "a dataclass of a dataclass",
        "a dataclass of a partial",
        "a partial of an own dataclass",
        "a dataclass of a global list",
        "a partial of a global list",
        "a partial from elsewhere",
        "the partial that a cache keeps",
        "a global list in a list",
    ],
)
def test_there_is_a_plan(name):
    model = ours.ToLinen(Keeps, args=(*CASES[name], "attribute"))
    variables = model.init(KEY, X)
    for _ in range(2):
        model.apply(variables, X)
    assert plans()["not_planned"] == {}
    assert plans()["hits"] == 1


# How functions that the constructor makes, or that JAX makes of them, are kept.
HOLDERS: dict[str, tp.Callable[[tp.Any], tp.Any]] = {
    "partial": lambda function: functools.partial(function),
    "partial with an argument": lambda function: functools.partial(function, scale=2.0),
    "argument of a partial": lambda function: functools.partial(scaled, function),
    "dataclass": Holds,
    "dataclass with slots": Slotted,
    "dataclass in a list": lambda function: [Holds(function)],
}
FUNCTIONS: dict[str, tp.Callable[[tp.Any], tp.Any]] = {
    "itself": lambda function: function,
    "checkpoint": jax.checkpoint,
    "named_call": lambda function: jax.named_call(function, name="name"),
    "vmap": jax.vmap,
    "vectorize": jnp.vectorize,
    "eval": lambda function: eval("lambda x, **more: function(x, **more)", {"function": function}),
}


class Runs(nnx.Module):
    def __init__(self, hold: tp.Any, wrap: tp.Any, of: str, *, rngs: nnx.Rngs) -> None:
        self.linear = nnx.Linear(3, 3, rngs=rngs)
        linear, numbers = self.linear, [1.0]

        def local(x, scale=1.0):
            numbers.append(1.0)
            return linear(x[None])[0] * scale * len(numbers) if x.ndim else x * len(numbers)

        self.held = nnx.static(hold(wrap(self.block if of == "method" else local)))

    def block(self, x, scale=1.0):
        return self.linear(x[None])[0] * scale if x.ndim else x

    def __call__(self, x: jax.Array) -> jax.Array:
        held = self.held
        if isinstance(held, list):
            (held,) = held
        if isinstance(held, Holds | Slotted):
            held = held.held if isinstance(held, Holds) else held.memo
        elif held.func is scaled:
            (held,) = held.args
        return held(x)


# A function under vmap takes no number.
HELD = [
    (hold, wrap)
    for hold in HOLDERS
    for wrap in FUNCTIONS
    if (hold, wrap) != ("partial with an argument", "vmap")
]


@pytest.mark.parametrize("of", ["method", "closure"])
@pytest.mark.parametrize(("hold", "wrap"), HELD)
def test_a_held_function_is_of_its_own_module(hold, wrap, of):
    args = (HOLDERS[hold], FUNCTIONS[wrap], of)
    variables = theirs.ToLinen(Runs, args=args).init(KEY, X)

    def found(bridge: tp.Any) -> list[tp.Any]:
        model = bridge.ToLinen(Runs, args=args)
        results = [model.apply(variables, X) for _ in range(3)]
        return [*results, jax.jit(model.apply)(variables, X), model.apply(variables, X)]

    assert_same(found(ours), found(theirs))


@functools.cache
def remembered() -> dict[str, float]:
    return {"rate": 1.0}


@functools.cache
def remembered_of(number: int) -> list[float]:
    return [float(number)]


@functools.lru_cache(4)
def remembered_for_some(number: int) -> list[float]:
    return [float(number)]


class Reads(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.rates = (remembered()["rate"], remembered_of(2)[0], remembered_for_some(3)[0])
        self.w = nnx.Param(rngs.params.normal((3,)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * jnp.array(self.rates)


@pytest.mark.parametrize("is_full", [False, True], ids=["", "called before"])
def test_a_change_of_what_a_cache_keeps_is_seen(is_full):
    def found(bridge: tp.Any) -> list[tp.Any]:
        for cache in (remembered, remembered_of, remembered_for_some):
            cache.cache_clear()
        if is_full:
            remembered(), remembered_of(2), remembered_for_some(3)
        model = bridge.ToLinen(Reads)
        variables = model.init(KEY, X)
        results = [model.apply(variables, X), model.apply(variables, X)]
        for change in (
            lambda: remembered().update(rate=5.0),
            lambda: remembered_of(2).insert(0, 7.0),
            lambda: remembered_for_some(3).insert(0, 9.0),
            remembered_of.cache_clear,
        ):
            change()
            results += [model.apply(variables, X), model.apply(variables, X)]
        return results

    assert_same(found(ours), found(theirs))
