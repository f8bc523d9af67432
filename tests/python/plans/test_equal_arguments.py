"""Arguments that are equal and not the same: each has a plan of its own."""

import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import math
import typing as tp
import uuid
import zoneinfo

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import PartitionSpec as P

from support.oracle import ours, theirs
from support.planning import plans

pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]


class EqualToAll(type):
    """The classes of this one are all equal, as those of JAX are to those of NumPy."""

    def __eq__(cls, other):
        return isinstance(other, EqualToAll)

    def __hash__(cls):
        return 1


def of_one_name(number):
    return EqualToAll("OfOneName", (), {"number": number, "__module__": __name__})


class Unhashable(type):
    def __eq__(cls, other):
        return isinstance(other, Unhashable)

    __hash__ = None


class One(metaclass=EqualToAll):
    number = 1


class Two(metaclass=EqualToAll):
    number = 2


class Three(metaclass=Unhashable):
    number = 3


class Four(metaclass=Unhashable):
    number = 4


@dataclasses.dataclass(frozen=True)
class FieldsOne(metaclass=EqualToAll):
    value: int = 0


@dataclasses.dataclass(frozen=True)
class FieldsTwo(metaclass=EqualToAll):
    value: int = 0


@dataclasses.dataclass(frozen=True)
class Frozen:
    value: tp.Any


class Pair(tp.NamedTuple):
    value: tp.Any


class Axis(enum.StrEnum):
    X = "x"


def closure(value):
    return lambda: value


def with_attribute(value):
    partial = functools.partial(id)
    partial.attribute = value
    return partial


def default(value):
    more = None
    return lambda value=value: value or more


UTC = datetime.UTC
HOUR = datetime.timedelta(hours=1)
NOON = datetime.datetime(2020, 1, 1, 12, tzinfo=UTC)

# Each has two that are equal.
EQUAL = {
    "float32 of JAX and of NumPy": (jnp.float32, np.float32),
    "int32 of NumPy and of JAX": (np.int32, jnp.int32),
    "bfloat16 of JAX and its dtype's type": (jnp.bfloat16, np.dtype(jnp.bfloat16).type),
    "classes that are equal by their metaclass": (One, Two),
    "classes that no dict takes": (Three, Four),
    "a class and its subclass": (One, type("OfOne", (One,), {"number": 5})),
    "frozen dataclasses of equal classes": (FieldsOne(), FieldsTwo()),
    "metadata of a dtype": (np.dtype("f4"), np.dtype("f4", metadata={"a": 1})),
    "other metadata of a dtype": tuple(np.dtype("f4", metadata={"a": i}) for i in (1, 2)),
    "alignment of a dtype": tuple(np.dtype([("a", "i4")], align=a) for a in (False, True)),
    "titles of a dtype": (np.dtype([("a", "i4")]), np.dtype([(("title", "a"), "i4")])),
    "metadata of a part of a dtype": (
        np.dtype([("a", "i4")]),
        np.dtype([("a", np.dtype("i4", metadata={"a": 1}))]),
    ),
    "dtypes of other types of C": (np.dtype("l"), np.dtype("q")),
    "an hour in other time zones": (NOON, NOON.astimezone(datetime.timezone(HOUR))),
    "the second of two equal hours": tuple(
        datetime.datetime(2020, 10, 25, 2, fold=fold, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
        for fold in (0, 1)
    ),
    "the order of a union": (tp.Union[int, str], tp.Union[str, int]),  # noqa: UP007
    "lists of classes of one name": tuple(list[of_one_name(i)] for i in (1, 2)),
    "the safety of identifiers": (
        uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe),
        uuid.UUID(int=1),
    ),
    "literals": (tp.Literal[1], tp.Literal[True]),
    "axes that are a text and a member of an enum": (P("x"), P(Axis.X)),
    "the zeros of decimals": (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    "the signs of nan": (float("nan"), -float("nan")),
    "the signs of complex nan": (complex(0, float("nan")), complex(0, -float("nan"))),
    "units of time": (np.datetime64("2020", "Y"), np.datetime64("2020-01-01", "D")),
    "defaults in signatures": tuple(
        inspect.Signature(
            [inspect.Parameter("a", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)]
        )
        for default in (1, True)
    ),
}


def described(value):
    """What code can see of the object."""
    if isinstance(value, np.dtype):
        parts = [value[name] for name in value.names or ()]
        return (
            str(value.metadata), value.isalignedstruct, value.char, repr(value),
            [str(part.metadata) for part in parts],
        )  # fmt: skip
    if isinstance(value, float | complex):
        return [math.copysign(1, part) for part in (value.real, value.imag)], repr(value)
    if isinstance(value, uuid.UUID):
        return value.is_safe
    numbers = [getattr(part, "number", None) for part in tp.get_args(value)]
    return value.__module__ if isinstance(value, type) else numbers, repr(value), type(value)


class Says(nnx.Module):
    """Says which argument it was given."""

    def __init__(self, given, get, rngs=None):
        self.described = nnx.static(described(get(given)))

    def __call__(self):
        return self.described


# How the object is given, and how the constructor reads it.
WAYS = {
    "argument": (lambda value: value, lambda given: given),
    "tuple": (lambda value: (value,), lambda given: given[0]),
    "list": (lambda value: [value], lambda given: given[0]),
    "dict": (lambda value: {"k": value}, lambda given: given["k"]),
    "partial": (lambda value: functools.partial(id, value), lambda given: given.args[0]),
    "attribute of a partial": (with_attribute, lambda given: given.attribute),
    "closure": (closure, lambda given: given()),
    "default": (default, lambda given: given()),
    "frozen dataclass": (Frozen, lambda given: given.value),
    "named tuple": (Pair, lambda given: given.value),
}


def said(bridge, way, value):
    put, get = WAYS[way]
    return bridge.ToLinen(Says, args=(put(value), get)).apply({})


@pytest.mark.parametrize("turned", [False, True], ids=["", "turned"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", EQUAL)
def test_equal_objects_have_plans_of_their_own(name, way, turned):
    values = EQUAL[name][::-1] if turned else EQUAL[name]
    for value in values * 2:
        assert said(ours, way, value) == said(theirs, way, value)


@pytest.mark.parametrize("name", EQUAL)
def test_equal_objects_of_layers_are_told_apart_in_a_staged_init(name):
    first, second = EQUAL[name]

    def said_in_init(bridge):
        said = []

        class Layer(nnx.Module):
            def __init__(self, given, rngs):
                self.w = nnx.Param(jnp.ones(2))
                self.described = nnx.static(described(given))

            def __call__(self):
                said.append(self.described)

        class Model(nn.Module):
            @nn.compact
            def __call__(self):
                for given in (first, second, first, second):
                    bridge.ToLinen(Layer, args=(given,))()

        jax.jit(Model().init)(jax.random.key(0))
        return said

    assert said_in_init(ours) == said_in_init(theirs)


@pytest.mark.parametrize("name", EQUAL)
def test_equal_objects_are_told_apart_in_calls_inside_a_constructor(name):
    first, second = EQUAL[name]

    class Outer(nnx.Module):
        def __init__(self, rngs=None):
            given = (first, second, first, second)
            self.parts = nnx.List([Says(value, lambda value: value) for value in given])

        def __call__(self):
            return [part() for part in self.parts]

    for _ in range(2):
        assert ours.ToLinen(Outer).apply({}) == theirs.ToLinen(Outer).apply({})


ARRAY = np.zeros(2, "l")


class Typed(nnx.Module):
    def __init__(self, rngs=None):
        self.char = ARRAY.dtype.char

    def __call__(self):
        return self.char


@pytest.mark.filterwarnings("ignore:Setting the dtype")
def test_another_equal_dtype_of_an_array_is_seen():
    for char in "lqlq":
        ARRAY.dtype = np.dtype(char)
        assert ours.ToLinen(Typed).apply({}) == char


@pytest.mark.feature("plans")
@pytest.mark.parametrize("value", [jnp.float32, np.float32, np.dtype("f4"), One, Three])
def test_the_same_object_has_one_plan(value):
    for _ in range(3):
        said(ours, "argument", value)
    assert (plans()["size"], plans()["hits"]) == (1, 2)
