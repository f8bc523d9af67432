"""Random constructors over random state, and random changes: plans on against plans off."""

import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.effort import LONG
from support.oracle import ours
from support.planning import without_plans

X = jnp.ones((1, 2))
KEY = jax.random.key(0)
EXAMPLES = 2_000 if LONG else 40

pytestmark = pytest.mark.usefixtures("fresh_caches")


class Place(tp.NamedTuple):
    """Where a number is kept: how it is set up, read and written there; `{n}` is its index."""

    setup: str
    read: str
    write: str


PLACES = {
    "global": Place("G{n} = {v}", "G{n}", "G{n} = {v}"),
    "attribute": Place("o{n} = Plain(); o{n}.a = {v}", "o{n}.a", "o{n}.a = {v}"),
    "nested": Place("o{n} = Plain(); o{n}.b = Plain(); o{n}.b.a = {v}", "o{n}.b.a",
                    "o{n}.b.a = {v}"),
    "replaced": Place("o{n} = Plain(); o{n}.b = Plain(); o{n}.b.a = {v}", "o{n}.b.a",
                      "o{n}.b = Plain(); o{n}.b.a = {v}"),
    "slot": Place("o{n} = Slotted(); o{n}.a = {v}", "o{n}.a", "o{n}.a = {v}"),
    "list": Place("l{n} = [0, {v}]", "l{n}[-1]", "l{n}[-1] = {v}"),
    "longer": Place("l{n} = [{v}]", "l{n}[-1]", "l{n}.append({v})"),
    "dict": Place("d{n} = dict(a=[{v}])", "d{n}['a'][0]", "d{n}['a'][0] = {v}"),
    "set": Place("s{n} = {{{v}}}", "max(s{n})", "s{n}.clear(); s{n}.add({v})"),
    "class": Place("class C{n}: a = {v}", "C{n}.a", "C{n}.a = {v}"),
    "base": Place("class B{n}: a = {v}\nclass C{n}(B{n}): pass", "C{n}().a", "B{n}.a = {v}"),
    "property": Place("class C{n}:\n  @property\n  def a(self): return self._a\n"
                      "o{n} = C{n}(); o{n}._a = {v}", "o{n}.a", "o{n}._a = {v}"),
    "closure": Place("def make{n}():\n  a = {v}\n  def get(): return a\n  def put(new):\n"
                     "    nonlocal a\n    a = new\n  return get, put\nget{n}, put{n} = make{n}()",
                     "get{n}()", "put{n}({v})"),
    "default": Place("def f{n}(a={v}): return a", "f{n}()", "f{n}.__defaults__ = ({v},)"),
    "function": Place("def f{n}(): return {v}", "f{n}()", "def f{n}(): return {v}"),
    "registry": Place("r{n} = dict(f=lambda: {v})", "r{n}['f']()", "r{n}['f'] = lambda: {v}"),
    "numpy": Place("a{n} = np.array([{v}])", "int(a{n}[0])", "a{n}[0] = {v}"),
    "partial": Place("p{n} = functools.partial(abs, {v})", "p{n}()",
                     "p{n} = functools.partial(abs, {v})"),
    "context": Place("x{n} = contextvars.ContextVar('x'); x{n}.set({v})", "x{n}.get()",
                     "x{n}.set({v})"),
    "local": Place("t{n} = threading.local(); t{n}.a = {v}", "t{n}.a", "t{n}.a = {v}"),
    "environment": Place("os.environ['NNX_TEST_{n}'] = str({v})",
                         "int(os.environ['NNX_TEST_{n}'])",
                         "os.environ['NNX_TEST_{n}'] = str({v})"),
    "frozen": Place("o{n} = Frozen([{v}])", "o{n}.a[0]", "o{n}.a[0] = {v}"),
}  # fmt: skip

# How the reading expression gets to the constructor.
WRAPPERS = [
    "{read}",
    "helper{n}()",
    "Reader{n}().get()",
    "[{read} for _ in range(1)][0]",
    "(lambda: {read})()",
    "sum(generator{n}())",
    "next_of{n}()",
]

# What the places need.
PREAMBLE = """
import collections, contextvars, dataclasses, functools, os, threading
import numpy as np
from flax import nnx
class Plain: pass
class Slotted: __slots__ = ("a",)
@dataclasses.dataclass(frozen=True)
class Frozen: a: list
"""

PROGRAM = """
{setup}
class Net(nnx.Module):
    def __init__(self, *, rngs):
        self.linear = nnx.Linear(2, 1, rngs=rngs)
        self.factor = {reads}
    def __call__(self, x):
        return self.linear(x) * self.factor
"""

HELPERS = """
def helper{n}(): return {read}
class Reader{n}:
    def get(self): return helper{n}()
def generator{n}():
    yield {read}
def next_of{n}():
    for value in generator{n}():
        return value
"""

places = st.tuples(st.sampled_from(sorted(PLACES)), st.sampled_from(WRAPPERS))
changes = st.tuples(st.integers(0, 3), st.integers(1, 4))


@pytest.mark.feature("plans")
@given(st.lists(places, min_size=1, max_size=4), st.lists(changes, min_size=1, max_size=6))
@settings(max_examples=EXAMPLES, deadline=None)
def test_plans_change_no_answer_whatever_changes(
    program: list[tuple[str, str]], steps: list[tuple[int, int]]
) -> None:
    setups, reads = [], []
    for number, (place, wrapper) in enumerate(program):
        kind = PLACES[place]
        read = kind.read.format(n=number)
        setups.append(kind.setup.format(n=number, v=1))
        setups.append(HELPERS.format(n=number, read=read))
        reads.append(f"{10**number} * " + wrapper.format(n=number, read=read))
    names: dict[str, tp.Any] = {"__name__": "random_program"}
    exec(PREAMBLE + PROGRAM.format(setup="\n".join(setups), reads=" + ".join(reads)), names)
    model = ours.ToLinen(names["Net"])
    variables = model.init(KEY, X)

    def same() -> None:
        with without_plans():
            expected = model.apply(variables, X)
        for _ in range(2):
            np.testing.assert_array_equal(model.apply(variables, X), expected)

    ours.clear_caches()
    same()
    for index, value in steps:
        number = index % len(program)
        exec(PLACES[program[number][0]].write.format(n=number, v=value), names)
        same()
    assert ours.cache_info()["plans"]["not_planned"] == {}
    assert ours.cache_info()["plans"]["hits"] > 0
