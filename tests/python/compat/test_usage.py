"""`record_usage`, `usage` and `clear_usage`: what the wrappers did, by wrapped class."""

import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers
from support.oracle import assert_same

X = jnp.arange(6.0).reshape(2, 3)
KEY = jax.random.key(0)
SLEEP = 0.05
LINEAR = "flax.nnx.nn.linear.Linear"
DENSE = "flax.linen.linear.Dense"

pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches", "recording"),
]


@pytest.fixture
def recording() -> Iterator[None]:
    """A test begins with an empty table and recording on, and leaves neither."""
    nnx_wrappers.clear_usage()
    before = nnx_wrappers.record_usage(True)
    yield
    nnx_wrappers.record_usage(before)
    nnx_wrappers.clear_usage()


def row(wrapped: str, wrapper: str = "ToLinen") -> dict[str, Any]:
    rows = [r for r in nnx_wrappers.usage() if (r["wrapper"], r["wrapped"]) == (wrapper, wrapped)]
    assert len(rows) == 1, nnx_wrappers.usage()
    return rows[0]


def counts(wrapped: str, wrapper: str = "ToLinen") -> dict[str, Any]:
    """What is not zero, seconds left out."""
    skipped = ("wrapper", "wrapped", "seconds")
    return {k: v for k, v in row(wrapped, wrapper).items() if v and k not in skipped}


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class Sleeper(nnx.Module):
    """Sleeps in its call; `inner`, if given, is called too."""

    def __init__(self, rngs: nnx.Rngs, inner: Any = None) -> None:
        self.scale = nnx.Param(jnp.ones(3))
        self.inner = None if inner is None else nnx_wrappers.ToNNX(inner, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        time.sleep(SLEEP)
        return x * self.scale if self.inner is None else self.inner(x)


class LinenSleeper(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        time.sleep(SLEEP)
        return nnx_wrappers.ToLinen(Leaf, name="leaf")(x)


class Leaf(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones(3))

    def __call__(self, x: jax.Array) -> jax.Array:
        time.sleep(SLEEP)
        return x * self.scale


class Failing(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones(3))

    def __call__(self, x: jax.Array, fail: bool = False) -> jax.Array:
        if fail:
            raise RuntimeError("on purpose")
        return x * self.scale


class Pausing(nnx.Module):
    """Lets the greenlet that began this one go on, before it ends its own call."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones(3))

    def __call__(self, x: jax.Array) -> jax.Array:
        around = greenlet.getcurrent().parent
        if around is not None:
            around.switch()
        return x * self.scale


def test_a_row_has_these_columns() -> None:
    nnx_wrappers.to_linen(nnx.Linear, 3, 4).init(KEY, X)
    assert set(row(LINEAR)) == {
        "wrapper", "wrapped", "inits", "calls", "plans_built", "plan_hits", "rebuilt",
        "not_planned", "seconds",
    }  # fmt: skip
    assert row(LINEAR)["seconds"] > 0


@pytest.mark.feature("plans")
def test_to_linen_counts_inits_calls_and_plans() -> None:
    model = nnx_wrappers.to_linen(nnx.Linear, 3, 4)
    variables = model.init(KEY, X)
    assert counts(LINEAR) == {"inits": 1}
    model.apply(variables, X)
    assert counts(LINEAR) == {"inits": 1, "calls": 1, "plans_built": 1}
    for _ in range(2):
        model.apply(variables, X)
    assert counts(LINEAR) == {"inits": 1, "calls": 3, "plans_built": 1, "plan_hits": 2}


def test_to_linen_class_and_partial_go_by_the_name_of_the_wrapped_class() -> None:
    nnx_wrappers.to_linen_class(nnx.Linear, in_features=3)(out_features=4).init(KEY, X)
    nnx_wrappers.ToLinen(functools.partial(nnx.Linear, out_features=4), args=(3,)).init(KEY, X)
    nested = functools.partial(functools.partial(nnx.Linear, 3), out_features=4)
    nnx_wrappers.ToLinen(nested).init(KEY, X)
    assert counts(LINEAR) == {"inits": 3}


def test_to_nnx_counts_the_linen_class() -> None:
    model = nnx_wrappers.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0)).lazy_init(X)
    assert counts(DENSE, "ToNNX") == {"inits": 1}
    model(X)
    model(X)
    assert counts(DENSE, "ToNNX") == {"inits": 1, "calls": 2}


@pytest.mark.feature("plans")
def test_failing_calls_are_counted() -> None:
    model = nnx_wrappers.ToLinen(Failing)
    variables = model.init(KEY, X)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="on purpose"):
            model.apply(variables, X, fail=True)
    assert counts(name_of(Failing)) == {"inits": 1, "calls": 2, "plans_built": 1, "plan_hits": 1}
    linen = nnx_wrappers.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0)).lazy_init(X)
    with pytest.raises(Exception, match="kernel"):
        linen(jnp.ones((1, 7)))
    assert counts(DENSE, "ToNNX") == {"inits": 1, "calls": 1}


def test_to_nnx_calls_that_fail_before_linen_runs_are_counted() -> None:
    model = nnx_wrappers.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match="rngs"):
        model.lazy_init(X, rngs="bad")
    assert counts(DENSE, "ToNNX") == {"inits": 1}
    model.lazy_init(X)
    with pytest.raises(TypeError, match="rngs"):
        model(X, rngs="bad")
    assert counts(DENSE, "ToNNX") == {"inits": 2, "calls": 1}


@pytest.mark.feature("plans")
def test_a_failing_inner_call_leaves_the_clocks_right() -> None:
    class Outer(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.scale = nnx.Param(jnp.ones(3))

        def __call__(self, x: jax.Array) -> jax.Array:
            with pytest.raises(RuntimeError):
                nnx_wrappers.ToLinen(Failing).apply({}, x, fail=True)
            time.sleep(SLEEP)
            return x * self.scale

    model = nnx_wrappers.ToLinen(Outer)
    variables = {"params": {"scale": jnp.ones(3)}}
    model.apply(variables, X)
    nnx_wrappers.clear_usage()
    for _ in range(4):
        model.apply(variables, X)
    assert counts(name_of(Outer)) == {"calls": 4, "plan_hits": 4}
    assert row(name_of(Outer))["seconds"] < 2 * SLEEP  # it slept twice that


def test_three_wrappers_deep_each_call_counts_once_and_no_sleep_counts() -> None:
    model = nnx_wrappers.to_linen(Sleeper, inner=LinenSleeper())
    variables = model.init(KEY, X)
    model.apply(variables, X)  # plans are made here
    nnx_wrappers.clear_usage()
    calls = 4
    begin = time.perf_counter()
    for _ in range(calls):
        model.apply(variables, X)
    whole = time.perf_counter() - begin
    rows = nnx_wrappers.usage()
    assert {(r["wrapper"], r["wrapped"]): r["calls"] for r in rows} == {
        ("ToLinen", name_of(Sleeper)): calls,
        ("ToNNX", name_of(LinenSleeper)): calls,
        ("ToLinen", name_of(Leaf)): calls,
    }
    total = sum(r["seconds"] for r in rows)
    slept = 3 * calls * SLEEP
    assert 0 < total < slept
    assert total <= whole - slept


def test_rows_come_with_the_most_seconds_first() -> None:
    for features in (3, 4):
        nnx_wrappers.to_linen(nnx.Linear, 3, features).init(KEY, X)
    nnx_wrappers.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0)).lazy_init(X)
    nnx_wrappers.to_linen(nnx.BatchNorm, 3).init(KEY, X)
    seconds = [r["seconds"] for r in nnx_wrappers.usage()]
    assert len(seconds) == 3
    assert seconds == sorted(seconds, reverse=True)


def test_nothing_is_recorded_while_it_is_off() -> None:
    assert nnx_wrappers.record_usage(False) is True
    model = nnx_wrappers.to_linen(nnx.Linear, 3, 4)
    model.apply(model.init(KEY, X), X)
    nnx_wrappers.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0)).lazy_init(X)
    assert nnx_wrappers.usage() == []
    assert nnx_wrappers.record_usage(True) is False


class Calls(nnx.Module):
    """Calls a function in the middle of a wrapped call, then another wrapper."""

    action: Any = None

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.scale = nnx.Param(jnp.ones(3))

    def __call__(self, x: jax.Array) -> jax.Array:
        if Calls.action is not None:
            Calls.action()
        return nnx_wrappers.ToLinen(Failing).apply({"params": {"scale": jnp.ones(3)}}, x)


@pytest.mark.parametrize("first", [False, True], ids=["off-then-on", "on-then-off"])
def test_a_call_is_recorded_as_it_was_set_when_it_began(
    first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    nnx_wrappers.record_usage(first)
    monkeypatch.setattr(Calls, "action", lambda: nnx_wrappers.record_usage(not first))
    nnx_wrappers.ToLinen(Calls).apply({"params": {"scale": jnp.ones(3)}}, X)
    expected = name_of(Calls) if first else name_of(Failing)
    assert [r["wrapped"] for r in nnx_wrappers.usage()] == [expected]


def test_clearing_during_a_call_keeps_that_call(monkeypatch: pytest.MonkeyPatch) -> None:
    nnx_wrappers.to_linen(nnx.Linear, 3, 4).init(KEY, X)
    monkeypatch.setattr(Calls, "action", nnx_wrappers.clear_usage)
    nnx_wrappers.ToLinen(Calls).apply({"params": {"scale": jnp.ones(3)}}, X)
    assert {r["wrapped"] for r in nnx_wrappers.usage()} == {name_of(Calls), name_of(Failing)}
    nnx_wrappers.clear_usage()
    assert nnx_wrappers.usage() == []


def test_usage_is_a_copy() -> None:
    nnx_wrappers.to_linen(nnx.Linear, 3, 4).init(KEY, X)
    nnx_wrappers.usage()[0]["inits"] = 7
    assert counts(LINEAR) == {"inits": 1}


@pytest.mark.feature("plans")
def test_two_threads_add_up_and_do_not_stop_each_others_clocks() -> None:
    model = nnx_wrappers.ToLinen(Leaf)
    variables = model.init(KEY, X)
    model.apply(variables, X)
    nnx_wrappers.clear_usage()
    calls = 3
    barrier = threading.Barrier(2)

    def work() -> None:
        barrier.wait()
        for _ in range(calls):
            model.apply(variables, X)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts(name_of(Leaf)) == {"calls": 2 * calls, "plan_hits": 2 * calls}
    assert row(name_of(Leaf))["seconds"] < calls * SLEEP  # both slept that long


def test_plans_switched_off_is_a_reason() -> None:
    model = nnx_wrappers.to_linen(nnx.Linear, 3, 4)
    variables = model.init(KEY, X)
    before = nnx_wrappers.use_plans(False)
    try:
        model.apply(variables, X)
    finally:
        nnx_wrappers.use_plans(before)
    expected = {"plans are switched off": 1}
    assert counts(LINEAR) == {"inits": 1, "calls": 1, "not_planned": expected}


@pytest.mark.feature("plans")
def test_array_arguments_give_the_reason_of_cache_info() -> None:
    class Keeps(nnx.Module):
        def __init__(self, value: Any, rngs: nnx.Rngs) -> None:
            self.scale = nnx.Param(jnp.ones(3))

        def __call__(self, x: jax.Array) -> jax.Array:
            return x * self.scale

    model = nnx_wrappers.to_linen(Keeps, jnp.ones(1))
    variables = {"params": {"scale": jnp.ones(3)}}
    model.apply(variables, X)
    model.apply(variables, X)
    noted = nnx_wrappers.cache_info()["plans"]["not_planned"]
    assert noted
    assert counts(name_of(Keeps)) == {"calls": 2, "not_planned": noted}
    assert list(noted.values()) == [2]


@pytest.mark.feature("plans")
def test_a_plan_that_lacks_values_is_no_hit() -> None:
    model = nnx_wrappers.to_linen(nnx.BatchNorm, 3, use_running_average=True)
    variables = model.init(KEY, X)
    model.apply(variables, X)
    model.apply({"params": variables["params"]}, X)
    reason = "floating-point values are not in the variables"
    assert counts("flax.nnx.nn.normalization.BatchNorm") == {
        "inits": 1, "calls": 2, "plans_built": 1, "not_planned": {reason: 1},
    }  # fmt: skip


def test_a_constructor_that_calls_a_wrapper_counts_both() -> None:
    class Builds(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.dense = nnx_wrappers.ToNNX(nn.Dense(3), rngs=rngs).lazy_init(X)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.dense(x)

    nnx_wrappers.ToLinen(Builds).init(KEY, X)
    assert counts(name_of(Builds)) == {"inits": 1}
    assert counts(DENSE, "ToNNX") == {"inits": 1, "calls": 1}


def deeper(levels: int, call: Callable[[], Any]) -> Any:
    """Calls from further down the stack of C."""
    if levels == 0:
        return call()
    return functools.reduce(lambda *_: deeper(levels - 1, call), [0, 0])


@pytest.mark.parametrize("order", [1, -1])
def test_calls_that_take_turns_as_greenlets_are_each_counted(order: int) -> None:
    """A greenlet that waits has its frames moved off the stack, and others lie there."""
    model = nnx_wrappers.ToLinen(Pausing)
    variables = model.init(KEY, X)
    nnx_wrappers.clear_usage()
    for first in range(20):
        calls = [greenlet.greenlet(deeper) for _ in range(4)]
        for number, call in enumerate(calls):
            call.switch((first + 7 * number) % 23, lambda: model.apply(variables, X))
        for call in calls[::order]:
            assert_same(call.switch(), X)
    assert counts(name_of(Pausing))["calls"] == 80
    assert 0 <= row(name_of(Pausing))["seconds"] < 60
