"""Threads: one class, one plan cache and many modules at once; re-entry from callbacks."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import nanobind
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.experimental import io_callback

import nnx_wrappers as nw
from support import ROOT
from support.effort import LONG
from support.oracle import describe, state_of

THREADS = 8
ROUNDS = 40 if LONG else 3
X = jnp.arange(6.0).reshape(2, 3)
KEYS = [jax.random.key(seed) for seed in range(THREADS)]


@pytest.fixture
def frequent_switches():
    """The GIL goes to another thread as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Nnx(nnx.Module):
    """Checks that it finds its own wrapper, before and after other threads ran."""

    def __init__(self, features, rngs):
        self.layer = nnx.Linear(3, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        wrapper = nw.current_linen_module()
        out = self.dropout(self.norm(self.layer(x)))
        assert nw.current_linen_module() is wrapper
        return out


class Linen(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x):
        assert nw.current_linen_module() is self
        x = nn.BatchNorm(use_running_average=False)(nn.Dense(self.features)(x))
        x = nn.Dropout(0.5, deterministic=False)(x)
        assert nw.current_linen_module() is self
        return x


SharedClass = nw.to_linen_class(Nnx)
SHARED = nw.ToLinen(Nnx, args=(4,))


def use_both_ways(thread):
    """Everything that a thread does, as bits."""
    results = []
    for turn in range(ROUNDS):
        features = 3 + (thread + turn) % 4
        model = SHARED if turn % 2 else SharedClass(features=features)
        keys = {"params": KEYS[thread], "dropout": KEYS[turn % THREADS]}
        variables = model.init(keys, X)
        assert nw.current_linen_module() is None
        updated = model.apply(
            variables, X, rngs={"dropout": keys["dropout"]}, mutable=["batch_stats"]
        )
        wrapped = nw.ToNNX(Linen(features), rngs=nnx.Rngs(thread, dropout=turn)).lazy_init(X)
        outputs = [wrapped(X), wrapped(X)]
        assert not wrapped._pytree__state.initializing
        assert not nw.is_linen_initializing()
        results.append(describe([variables, updated, outputs, state_of(wrapped)]))
    return results


def in_threads(function):
    """function(i) in THREADS threads that begin together."""
    barrier = threading.Barrier(THREADS)

    def begin(thread):
        barrier.wait(60)
        return function(thread)

    with ThreadPoolExecutor(THREADS) as pool:
        return [future.result(300) for future in [pool.submit(begin, i) for i in range(THREADS)]]


@pytest.mark.feature("plans")
def test_threads_get_what_one_thread_gets(fresh_caches, frequent_switches):
    alone = [use_both_ways(thread) for thread in range(THREADS)]
    nw.clear_caches()
    assert in_threads(use_both_ways) == alone
    assert nw.cache_info()["plans"]["hits"] > 0


def test_caches_may_be_cleared_while_other_threads_read_them(fresh_caches, frequent_switches):
    alone = [use_both_ways(thread) for thread in range(THREADS)]

    def use_or_clear(thread):
        if thread != 0:
            return use_both_ways(thread)
        for _ in range(ROUNDS * 100):
            nw.clear_caches()
            nw.cache_info()
        return alone[0]

    assert in_threads(use_or_clear) == alone


def test_usage_counts_the_calls_of_all_threads(frequent_switches):
    nw.clear_usage()
    nw.record_usage(True)
    try:
        in_threads(use_both_ways)
        rows = {row["wrapper"]: row for row in nw.usage()}
    finally:
        nw.record_usage(False)
        nw.clear_usage()
    each = THREADS * ROUNDS
    assert (rows["ToNNX"]["inits"], rows["ToNNX"]["calls"]) == (each, 2 * each)
    assert (rows["ToLinen"]["inits"], rows["ToLinen"]["calls"]) == (each, each)


def test_a_failure_in_one_thread_leaves_the_context_of_others(frequent_switches):
    class Fails(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(3)(x)
            raise KeyError("odd")

    def fail_or_use(thread):
        if thread % 2 == 0:
            return use_both_ways(thread)
        for _ in range(ROUNDS):
            model = nw.ToNNX(Fails(), rngs=nnx.Rngs(0))
            with pytest.raises(KeyError, match="odd"):
                model.lazy_init(X)
            assert nw.current_linen_module() is None
            assert not model._pytree__state.initializing
            assert not any(isinstance(value, nnx.Variable) for value in vars(model).values())
        return None

    results = in_threads(fail_or_use)
    assert results[::2] == [use_both_ways(thread) for thread in range(0, THREADS, 2)]


def test_another_thread_may_change_what_is_walked(frequent_switches):
    class Model(nnx.Module):
        def __init__(self):
            self.listed = nnx.data([nnx.Param(X)])
            self.named = nnx.data({"a": nnx.Param(X)})
            self.wrapped = nw.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.wrapped(x)

    model = Model()
    attributes = {}
    stop = threading.Event()

    def change():
        while not stop.is_set():
            model.listed.extend([nnx.Param(X)] * 9)
            model.named.update({str(i): nnx.Param(X) for i in range(9)})
            model.other = nnx.data([model])
            attributes.update({str(i): {"b": nnx.Param(X)} for i in range(9)})
            del model.other
            model.listed.clear()
            model.named.clear()
            attributes.clear()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(ROUNDS * 20):
            nw.lazy_init(model, X)
            nw.nnx_attrs_to_linen_vars(attributes)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    assert not model._pytree__state.initializing
    assert nw.lazy_init(model, X)(X).shape == (2, 3)


@pytest.mark.parametrize("jit", [False, True])
def test_callbacks_of_a_running_module_use_the_bridge(jit, fresh_caches):
    inner = nw.ToLinen(nnx.Linear, args=(3, 4))
    variables = inner.init(KEYS[0], X)
    wrapped = nw.ToNNX(nn.Dense(4), rngs=nnx.Rngs(0)).lazy_init(X)

    def on_host(x):
        x = np.asarray(x)
        return np.asarray(inner.apply(variables, x)) + np.asarray(wrapped(x))

    class Calls(nnx.Module):
        def __init__(self, function, rngs):
            # In a closure of the class it would live on, since JAX keeps classes of modules.
            self.function = function
            self.layer = nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x):
            shape = jax.ShapeDtypeStruct((2, 4), jnp.float32)
            x = self.layer(x)
            pure = jax.pure_callback(self.function, shape, x)
            return pure, io_callback(self.function, shape, x)

    outer = nw.ToLinen(Calls, args=(on_host,))
    given = outer.init(KEYS[1], X)
    hidden = X @ given["params"]["layer"]["kernel"] + given["params"]["layer"]["bias"]
    apply = jax.jit(outer.apply) if jit else outer.apply
    for got in apply(given, X):
        np.testing.assert_allclose(got, on_host(hidden), rtol=1e-5)
    assert nw.current_linen_module() is None


def run_python(program, timeout=120):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


FIRST_USE = """
    import sys, threading
    import jax, jax.numpy as jnp
    from flax import nnx
    import nnx_wrappers as nw

    sys.setswitchinterval(1e-6)
    barrier = threading.Barrier(8)

    def use():
        barrier.wait()
        nw.cache_info()
        nw.linen_vars_to_nnx_attrs(nnx.State({"params": {"a": 1}}))
        nw.ToLinen(nnx.Linear, args=(3, 4)).apply({}, jnp.ones((1, 3)), mutable=False)

    threads = [threading.Thread(target=use, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    print("hung" if any(thread.is_alive() for thread in threads) else "done", flush=True)
    import os; os._exit(0)
"""


@pytest.mark.parametrize("attempt", range(10 if LONG else 2))
def test_the_first_use_by_many_threads_does_not_hang(attempt):
    result = run_python(FIRST_USE)
    assert result.stdout == "done\n", result.stderr


def test_no_lock_is_held_while_python_objects_are_made():
    """A function-local static locks; what needs Python is made by py::Once."""
    statics = []
    for file in sorted((ROOT / "src").rglob("*.cc")):
        for line in file.read_text().splitlines():
            if re.match(r"\s+static (?!const(init|expr) ).*;", line):
                statics.append((file.name, line.split()[1]))
    without_python = {
        ("install.cc", "bool"),
        ("usage.cc", "Table"),
        ("interpreter.cc", "bool"),
        ("cache_registry.cc", "auto*"),
    }
    assert set(statics) == without_python


SUBINTERPRETER = """
    import os, sys
    if sys.version_info >= (3, 13):
        import _interpreters as interpreters
        new = interpreters.create("legacy")
    else:
        import _xxsubinterpreters as interpreters
        new = interpreters.create(isolated=False)
    interpreters.run_string(new, "\\n".join([
        "try:",
        "    import nnx_wrappers",
        "except ImportError as error:",
        "    print(error.__cause__ or error, flush=True)",
    ]))
    os._exit(0)
"""


def test_a_subinterpreter_is_refused():
    result = run_python(SUBINTERPRETER)
    assert "main interpreter only" in result.stdout, result.stderr


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
def test_a_python_without_the_gil_is_refused_by_the_compiler():
    """The headers of such a Python define Py_GIL_DISABLED."""
    command = ["c++", "-std=c++20", "-fsyntax-only", "-x", "c++", "-DPy_GIL_DISABLED=1"]
    for folder in (ROOT / "src", sysconfig.get_path("include"), nanobind.include_dir()):
        command += ["-I", str(folder)]
    result = subprocess.run(
        [*command, str(ROOT / "src" / "py" / "supported.h")], capture_output=True, text=True
    )
    assert result.returncode != 0
    assert "nnx_wrappers needs a Python with the GIL" in result.stderr
