"""A plan gives what the constructor gives, bit for bit, and the constructor does not run again."""

import gc
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from support.oracle import assert_same, ours, theirs
from support.planning import COUNTS, LOG, plans, reasons, without_plans

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
DROP = {"dropout": jax.random.key(5)}

# Many models here are called without variables, to see what their constructor makes.
pytestmark = [
    pytest.mark.feature("plans"),
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]


class Counting(nnx.Module):
    """Tells when its constructor and its initializer run."""

    def __init__(self, features=3, rngs=None):
        LOG.info("constructed")

        def init(key, shape, dtype=jnp.float32):
            LOG.info("initialized")
            return jax.random.normal(key, shape, dtype)

        self.linear = nnx.Linear(3, features, kernel_init=init, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.names = ["relu"]

    def __call__(self, x):
        self.names.append("called")
        assert self.names == ["relu", "called"]  # no instance sees another's list
        return self.drop(self.norm(self.linear(x)))


def test_neither_constructor_nor_initializers_run_again():
    model = ours.ToLinen(Counting)
    variables = model.init(RNGS, X)
    model.apply(variables, X, rngs=DROP, mutable=["batch_stats"])
    before = COUNTS["constructed"], COUNTS["initialized"]
    for _ in range(3):
        model.apply(variables, X, rngs=DROP, mutable=["batch_stats"])
        ours.ToLinen(Counting).apply(variables, X, rngs=DROP, mutable=["batch_stats"])
    assert (COUNTS["constructed"], COUNTS["initialized"]) == before
    assert plans()["not_planned"] == {}


@pytest.mark.parametrize("rngs", [None, DROP, RNGS], ids=["none", "dropout", "both"])
@pytest.mark.parametrize("missing", [None, "params", "batch_stats"])
def test_planned_and_unplanned_are_the_same_bits(rngs, missing):
    model, reference = ours.ToLinen(Counting), theirs.ToLinen(Counting)
    variables = {k: v for k, v in reference.init(RNGS, X).items() if k != missing}
    expected = reference.apply(variables, X, rngs=rngs, mutable=True)
    for _ in range(2):
        assert_same(model.apply(variables, X, rngs=rngs, mutable=True), expected)
    with without_plans():
        assert_same(model.apply(variables, X, rngs=rngs, mutable=True), expected)
    assert plans()["size"] > 0


def equations(function, *args):
    return len(jax.make_jaxpr(function)(*args).eqns)


def test_no_equation_is_added_without_rngs():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Linear(3, 3, rngs=rngs) for _ in range(4)])
            self.drop = nnx.Dropout(0.5, deterministic=True, rngs=rngs)

        def __call__(self, x):
            for layer in self.layers:
                x = self.drop(layer(x))
            return x

    native = Model(nnx.Rngs(0))
    graphdef, state = nnx.split(native)
    model = ours.ToLinen(Model)
    variables = model.init(RNGS, X)
    live = equations(lambda s, x: nnx.merge(graphdef, s)(x), state, X)
    assert equations(model.apply, variables, X) == live
    assert equations(theirs.ToLinen(Model).apply, variables, X) > 2 * live
    # With keys: their derivation in Linen's scope, and one nested call.
    keys = equations(lambda v, x, k: model.apply(v, x, rngs={"dropout": k}), variables, X,
                     jax.random.key(0))  # fmt: skip
    assert keys <= live + 4


def test_counters_of_the_scope_advance_as_before():
    class Outer(nn.Module):
        bridge: object

        @nn.compact
        def __call__(self, x):
            layer = self.bridge.ToLinen(nnx.Linear, args=(3, 3), name="layer")
            first = layer(x)
            return first, layer.make_rng("dropout"), layer.make_rng("params")

    variables = Outer(theirs).init(RNGS, X)
    expected = Outer(theirs).apply(variables, X, rngs=RNGS)
    for _ in range(2):
        assert_same(Outer(ours).apply(variables, X, rngs=RNGS), expected)
    assert plans()["hits"] >= 1


class Config:
    """An argument of a type that nobody knows."""


class Holds(nnx.Module):
    def __init__(self, config, rngs=None):
        self.config = config

    def __call__(self):
        return self.config


def test_objects_that_the_caller_gave_are_kept():
    config = Config()
    model = ours.ToLinen(Holds, args=(config,))
    assert [model.apply({}) is config for _ in range(2)] == [True, True]
    assert plans()["hits"] > 0
    assert reasons() == ""


def test_a_to_nnx_in_the_constructor_is_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.inner = ours.ToNNX(nn.Dense(3), rngs=rngs)

        def __call__(self, x):
            return self.inner(x)

    model = ours.ToLinen(Model)
    y, variables = model.init_with_output(RNGS, X)
    for _ in range(3):
        assert_same(model.apply(variables, X), y)
    assert plans()["hits"] > 0
    assert reasons() == ""


def test_tracers_never_outlive_their_trace():
    model = ours.ToLinen(Counting)
    variables = model.init(RNGS, X)
    with jax.checking_leaks():
        for _ in range(2):
            jax.jit(lambda v: model.apply(v, X, rngs=DROP, mutable=["batch_stats"]))(variables)
            jax.grad(lambda v: model.apply(v, X, rngs=DROP, mutable=["batch_stats"])[0].sum())(
                variables
            )


def test_a_plan_keeps_no_argument_alive_once_it_is_cleared():
    config = Config()
    reference = weakref.ref(config)
    ours.ToLinen(Holds, args=(config,)).apply({})
    del config
    ours.clear_caches()
    gc.collect()
    assert reference() is None


def test_the_cache_is_bounded_and_can_be_cleared():
    for value in range(600):
        ours.ToLinen(Holds, args=(value,)).apply({})
    assert 0 < plans()["size"] < 600
    ours.clear_caches()
    assert plans() == {"size": 0, "hits": 0, "misses": 0, "not_planned": {}, "rebuilt": {}}
    assert ours.cache_info()["shape_checks"] == {"size": 0, "hits": 0, "misses": 0}


def test_the_off_switch_runs_the_constructor():
    model = ours.ToLinen(Counting)
    variables = model.init(RNGS, X)
    with without_plans():
        before = COUNTS["constructed"]
        model.apply(variables, X)
        assert COUNTS["constructed"] == before + 1
    assert plans()["size"] == 0


def test_the_environment_switches_plans_off(tmp_path):
    code = "import nnx_wrappers; print(nnx_wrappers.use_plans(True))"
    for value, expected in (("0", "False"), ("1", "True")):
        out = subprocess.run(
            [sys.executable, "-c", code],
            env={"NNX_WRAPPERS_PLANS": value, "JAX_PLATFORMS": "cpu", "PATH": ""},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.strip() == expected


def test_a_constructor_that_fails_fails_as_before():
    class Fails(nnx.Module):
        def __init__(self, rngs):
            raise RuntimeError("mine")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="mine"):
            ours.ToLinen(Fails).apply({})


# --- random constructors -------------------------------------------------------------

leaf_kinds = st.sampled_from(["param", "stat", "const", "draw", "number", "raw"])
shapes = st.recursive(
    st.tuples(leaf_kinds, st.integers(1, 3)),
    lambda below: st.lists(below, min_size=1, max_size=3),
    max_leaves=6,
)


class Random(nnx.Module):
    """A module whose structure follows a nested tuple: nesting, sharing, RNG use."""

    def __init__(self, spec, share=False, rngs=None):
        self.share = share
        self.children = nnx.List([])
        for part in spec:
            if isinstance(part, tuple) and part and isinstance(part[0], str):
                self.children.append(self.leaf(*part, rngs))
            else:
                self.children.append(Random(part, share, rngs=rngs))
        if share and self.children:
            self.again = self.children[0]
        self.drop = nnx.Dropout(0.5, rngs=rngs) if len(spec) % 2 else None

    @staticmethod
    def leaf(kind, size, rngs):
        if kind == "param":
            return nnx.Linear(1, size, rngs=rngs)
        holder = nnx.Module()
        if kind == "stat":
            holder.v = nnx.BatchStat(jnp.zeros(size))
        elif kind == "const":
            holder.v = nnx.Param(jnp.arange(size, dtype=jnp.float32))
        elif kind == "draw":
            holder.v = nnx.Param(jax.random.uniform(rngs.dropout(), (size,)))
        elif kind == "number":
            holder.v = nnx.Param(float(size))
        else:
            holder.v = nnx.data(jnp.full(size, 2.0))
        return holder

    def __call__(self):
        total = jnp.zeros(())
        for child in self.children:
            if isinstance(child, Random):
                total = total + child()
            elif isinstance(child, nnx.Linear):
                total = total + child(jnp.ones((1, 1))).sum()
            else:
                value = child.v.get_value() if isinstance(child.v, nnx.Variable) else child.v
                total = total + jnp.sum(jnp.asarray(value))
                if isinstance(child.v, nnx.BatchStat):
                    child.v[...] = child.v[...] + 1
        return self.drop(total) if self.drop is not None else total


def frozen(spec):
    return tuple(frozen(part) if isinstance(part, list) else part for part in spec)


@given(st.lists(shapes, min_size=1, max_size=3), st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=25, deadline=None)
def test_random_constructors_are_planned_to_the_bit(spec, share, with_rngs, drop_params):
    model = ours.ToLinen(Random, args=(frozen(spec), share))
    rngs = RNGS if with_rngs else None
    variables = model.init(RNGS)
    if drop_params:
        variables = {k: v for k, v in variables.items() if k != "params"}
    with without_plans():
        expected = model.apply(variables, rngs=rngs, mutable=True)
    ours.clear_caches()
    for _ in range(2):
        assert_same(model.apply(variables, rngs=rngs, mutable=True), expected)
    assert plans()["hits"] > 0
    assert reasons() == ""
