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
    dim: int = 3


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
    "a dataclass with slots": (Slotted, lambda kept: kept.dim),
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
