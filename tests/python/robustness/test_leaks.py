"""Many calls of every public name, good and bad, leave nothing behind.

Objects by type, the reference counts of the arguments and the memory of the process are the
same after them as before. NNX_WRAPPERS_LONG=1 makes 100,000 calls of each (10,000 where one
takes over a millisecond); otherwise a few.
"""

import collections
import dataclasses
import gc
import resource
import sys
import time
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers as nw
from nnx_wrappers import _core
from support.effort import LONG

X = jnp.ones((2, 4))
KEY = jax.random.key(0)
MODEL = nw.to_linen(nnx.Linear, 4, 3)
VARIABLES = MODEL.init(KEY, X)
BOUND = MODEL.bind(VARIABLES)
TO_NNX = nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).lazy_init(X)
FRESH = nw.ToNNX(nn.Dense(3))
BOX = nw.NNXMeta(nnx.Param, X, {"out_sharding": ("a", "b")})
VARIABLE = nnx.Param(X, note="mine")
FUNCTIONAL = nw.functional(nnx.Linear)(4, 3, rngs=nnx.Rngs(0))
STATE = FUNCTIONAL.init(rngs=nnx.Rngs(0))
PATH = jax.tree_util.tree_leaves_with_path(VARIABLES)[0][0]


class Stateful(nnx.Module):
    """Draws keys and counts, so that applying it stores."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.dropout(x))


STATEFUL = nw.to_linen(Stateful)
NORM = nw.to_linen(nnx.BatchNorm, 4)
LINEAR_VARIABLES = nn.Dense(3).init(KEY, X)
STATEFUL_VARIABLES = STATEFUL.init(KEY, X)


class Fails(nnx.Module):
    def __call__(self, x: jax.Array) -> jax.Array:
        raise ValueError("on purpose")


class FailsToBeMade(nnx.Module):
    def __init__(self) -> None:
        raise ValueError("on purpose")


def install_and_restore() -> None:
    nw.install().restore()


def install_for_a_while() -> None:
    with nw.install():
        pass


GOOD: dict[str, Callable[[], object]] = {
    "Functional": lambda: FUNCTIONAL.apply(STATE)(X),
    "Installation": install_and_restore,
    "NNXMeta": lambda: BOX.remove_axis(0, {"partition_name": "a"}),
    "NNXMeta.add_axis": lambda: BOX.add_axis(0, {"partition_name": "c"}),
    "NNXMeta.to_nnx_variable": lambda: BOX.to_nnx_variable(),
    "ToLinen": lambda: MODEL.apply(VARIABLES, X),
    "ToLinen, state": lambda: STATEFUL.apply(
        STATEFUL_VARIABLES, X, rngs={"dropout": KEY}, mutable=True
    ),
    "ToLinen.init": lambda: MODEL.init(KEY, X),
    "ToLinen.clone": lambda: MODEL.clone(name="other"),
    "ToLinen, attribute": lambda: BOUND.set_attributes,
    "ToNNX": lambda: TO_NNX(X),
    "ToNNX, made": lambda: nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)),
    "ToNNX, attribute": lambda: TO_NNX.param,
    "ToNNX, method": lambda: TO_NNX(X, method="__call__", mutable=["params"]),
    "ToNNX.get_layers": lambda: TO_NNX.get_layers(),
    "ToNNX.release_rngs": lambda: TO_NNX.release_rngs(),
    "cache_info": nw.cache_info,
    "dump_linen": lambda: nw.dump_linen(nnx.Linear(4, 3, rngs=nnx.Rngs(0))),
    "features": nw.features,
    "clear_usage": nw.clear_usage,
    "current_linen_module": nw.current_linen_module,
    "functional": lambda: nw.functional(nnx.Linear),
    "get_cmake_dir": nw.get_cmake_dir,
    "get_col_name": lambda: nw.get_col_name(PATH),
    "get_include": nw.get_include,
    "install": install_for_a_while,
    "is_linen_initializing": nw.is_linen_initializing,
    "is_vanilla_variable": lambda: nw.is_vanilla_variable(VARIABLE),
    "lazy_init": lambda: nw.lazy_init(nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)), X),
    "linen_rngs_dict": lambda: nw.linen_rngs_dict(BOUND),
    "linen_vars_to_nnx_attrs": lambda: nw.linen_vars_to_nnx_attrs(VARIABLES),
    "load_linen": lambda: nw.load_linen(nnx.Linear(4, 3, rngs=nnx.Rngs(0)), None, LINEAR_VARIABLES),
    "nnx_attrs_to_linen_vars": lambda: nw.nnx_attrs_to_linen_vars({"a": VARIABLE}),
    "record_usage": lambda: nw.record_usage(False),
    "to_linen": lambda: nw.to_linen(nnx.Linear, 4, out_features=3),
    "to_linen_class": lambda: LINEAR(out_features=3),
    "to_linen_var": lambda: nw.to_linen_var(VARIABLE),
    "to_nnx_var": lambda: nw.to_nnx_var("params", BOX),
    "usage": nw.usage,
    "use_plans": lambda: nw.use_plans(True),
    "with_partitioning": lambda: nw.with_partitioning(nn.initializers.zeros, ("a",)),
    "plan built": lambda: (nw.clear_caches(), MODEL.apply(VARIABLES, X)),
    "clear_caches": nw.clear_caches,
}
LINEAR = nw.to_linen_class(nnx.Linear, in_features=4)

BAD: dict[str, Callable[[], object]] = {
    "NNXMeta.remove_axis": lambda: BOX.remove_axis(0, {"partition_name": "wrong"}),
    "ToLinen, an instance": lambda: nw.ToLinen(nnx.Linear(4, 3, rngs=nnx.Rngs(0))),
    "ToLinen, no method": lambda: MODEL.apply(VARIABLES, X, nnx_method="missing"),
    "ToLinen, method fails": lambda: nw.ToLinen(Fails, skip_rng=True).apply({}, X),
    "ToLinen, class fails": lambda: nw.ToLinen(FailsToBeMade, skip_rng=True).apply({}, X),
    "ToLinen, wrong shape": lambda: MODEL.apply(VARIABLES, X[:, :1]),
    "ToLinen, attribute": lambda: BOUND.missing,
    "ToNNX, not initialized": lambda: FRESH(X),
    "ToNNX, rngs": lambda: TO_NNX(X, rngs="bad"),
    "ToNNX, wrong shape": lambda: TO_NNX(X[:, :1]),
    "ToNNX, attribute": lambda: TO_NNX.missing,
    "get_col_name": lambda: nw.get_col_name((1,)),
    "is_vanilla_variable": lambda: nw.is_vanilla_variable(1),
    "lazy_init": lambda: nw.lazy_init(1),
    "lazy_init, fails": lambda: nw.lazy_init(FRESH, X),
    "linen_rngs_dict": lambda: nw.linen_rngs_dict(MODEL),
    "load_linen": lambda: nw.load_linen(nnx.Linear(4, 9, rngs=nnx.Rngs(0)), None, LINEAR_VARIABLES),
    "linen_vars_to_nnx_attrs": lambda: nw.linen_vars_to_nnx_attrs(
        {"params": {"a": X}, "batch_stats": {"a": X}}
    ),
    "nnx_attrs_to_linen_vars": lambda: nw.nnx_attrs_to_linen_vars([1]),
    "to_linen_var": lambda: nw.to_linen_var(1),
    "to_nnx_var": lambda: nw.to_nnx_var("batch_stats", BOX),
}

ARGUMENTS = (X, KEY, MODEL, VARIABLES, TO_NNX, FRESH, BOX, VARIABLE, PATH, nnx.Linear, nnx.Param)


@dataclasses.dataclass
class Seen:
    """What is alive: objects by type, references to the arguments, memory in KiB."""

    objects: collections.Counter[type]
    references: list[int]
    memory: int


def look() -> Seen:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * resource.getpagesize() // 1024
    references = [sys.getrefcount(argument) for argument in ARGUMENTS]
    return Seen(collections.Counter(map(type, gc.get_objects())), references, memory)


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def swallowing(call: Callable[[], object]) -> Callable[[], None]:
    def swallow() -> None:
        try:
            call()
        except Exception:
            return
        raise AssertionError("it was to fail")

    return swallow


def times_for(call: Callable[[], object]) -> int:
    start = time.perf_counter()
    repeat(call, 3)
    is_slow = time.perf_counter() - start > 3e-3
    if LONG:
        return 10_000 if is_slow else 100_000
    return 30 if is_slow else 300


def growth(before: Seen, after: Seen, times: int) -> dict[str, int]:
    """What grew with the calls, by name."""
    grown = {
        kind.__name__: count - before.objects[kind]
        for kind, count in after.objects.items()
        if count - before.objects[kind] > times // 10
    }
    references = zip(after.references, before.references, strict=True)
    more = max(now - then for now, then in references)
    if more > times // 10:
        grown["references to an argument"] = more
    if LONG and after.memory - before.memory > 4096:
        grown["KiB"] = after.memory - before.memory
    return grown


def assert_flat(call: Callable[[], object]) -> None:
    """What a call keeps, every batch of calls shows; caches grow in some of them."""
    repeat(call, 20)
    times = times_for(call)
    repeat(call, times // 10)
    batches = []
    for _ in range(4):
        before = look()
        repeat(call, times)
        batches.append(growth(before, look(), times))
        if not batches[-1]:
            return
    raise AssertionError(batches)


@pytest.fixture(autouse=True)
def _quiet(fresh_caches: None) -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what other tests left is not looked at again and again
    yield
    gc.unfreeze()


# Which modules hold Flax's classes already depends on what ran before.
@pytest.mark.filterwarnings("ignore:nnx_wrappers.install.. came late")
@pytest.mark.parametrize("name", GOOD)
def test_calls_leave_nothing_behind(name: str) -> None:
    assert_flat(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_failing_calls_leave_nothing_behind(name: str) -> None:
    assert_flat(swallowing(BAD[name]))


def test_every_public_name_is_called() -> None:
    errors = {name for name in nw.__all__ if name.endswith("Error")}
    on_disk = {name for name in nw.__all__ if name.endswith(("_checkpoint", "_checkpoints"))}
    assert len(on_disk) == 3  # Orbax and TensorStore keep what they have opened
    assert set(nw.__all__) - errors - on_disk <= set(GOOD)


def test_the_extension_has_no_type_whose_instances_hold_objects() -> None:
    """So no cycle goes through one: its objects are Python's, which the collector sees."""
    kinds = [value for value in vars(_core).values() if isinstance(value, type)]
    assert all(issubclass(kind, Exception) for kind in kinds), kinds


def test_the_collector_sees_what_wrappers_hold() -> None:
    def reachable(root: object) -> set[int]:
        found, todo = set(), [root]
        while todo:
            for referent in gc.get_referents(todo.pop()):
                if id(referent) not in found and not isinstance(referent, type | types.ModuleType):
                    found.add(id(referent))
                    todo.append(referent)
        return found

    for holder, held in [
        (TO_NNX, TO_NNX.to_nnx__module),
        (TO_NNX, TO_NNX.kernel),
        (MODEL, MODEL.args),
        (BOX, BOX.metadata),
        (FUNCTIONAL, FUNCTIONAL.kwargs),
    ]:
        assert id(held) in reachable(holder)


class Argument:
    """To be held by a plan."""


class TakesAnything(nnx.Module):
    def __init__(self, argument: object, *, rngs: nnx.Rngs) -> None:
        self.argument = argument

    def __call__(self, x: jax.Array) -> jax.Array:
        return x


def test_what_is_dropped_is_freed() -> None:
    class Local(nnx.Linear):
        """A class that only this test and its plans hold."""

    dropped = []
    for _ in range(2):
        model = nw.to_linen(Local, 4, 3)
        bound = model.bind(model.init(KEY, X))
        bound(X)  # builds or uses the plan
        to_nnx = nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).lazy_init(X)
        to_nnx(X)
        held = (model, bound, bound.scope, to_nnx, to_nnx.kernel.get_value(), to_nnx.to_nnx__module)
        dropped += [weakref.ref(each) for each in held]
    del model, bound, to_nnx, held
    gc.collect()
    assert [reference() for reference in dropped] == [None] * len(dropped)
    # The plan holds what it was made of, until it is cleared.
    assert nw.cache_info()["plans"]["size"] > 0
    argument = Argument()
    dropped = weakref.ref(argument)
    nw.to_linen(TakesAnything, argument).apply({}, X)
    del argument
    nw.clear_caches()
    gc.collect()
    assert dropped() is None


def tracers() -> list[jax.core.Tracer]:
    gc.unfreeze()
    return [found for found in gc.get_objects() if isinstance(found, jax.core.Tracer)]


@pytest.mark.parametrize("fails", [False, True])
def test_no_tracer_outlives_its_trace(fails: bool) -> None:
    def step(variables: dict, state: nnx.State, x: jax.Array) -> jax.Array:
        to_nnx = nnx.merge(graphdef, state)
        y = MODEL.apply(variables, x) + to_nnx(x)
        # No dropout: JAX keeps the tracers of a trace that failed after a comparison.
        _, made = NORM.init_with_output(jax.random.key(1), x)
        y += jnp.sum(NORM.apply(made, x, mutable=True)[0])
        if fails:
            raise ValueError("on purpose")
        return jnp.sum(y)

    graphdef, state = nnx.split(nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).lazy_init(X))
    before = tracers()  # of tests that ran before in this process
    for _ in range(2):
        try:
            jax.grad(jax.jit(step))(VARIABLES, state, X)
        except ValueError:
            assert fails
    gc.collect()
    assert [tracer for tracer in tracers() if not any(tracer is known for known in before)] == []
