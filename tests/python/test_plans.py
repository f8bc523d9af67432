"""Construction plans: used where they are sound, and only there."""

import contextlib
import functools
import gc
import subprocess
import sys
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from oracle import assert_same, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
DROP = {"dropout": jax.random.key(5)}

# Many models here are called without variables, to see what their constructor makes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]


@contextlib.contextmanager
def without_plans():
    before = ours.use_plans(False)
    try:
        yield
    finally:
        ours.use_plans(before)


def plans():
    return ours.cache_info()["plans"]


class Counting(nnx.Module):
    """Counts how often its constructor and its initializer run."""

    constructed = 0
    initialized = 0

    def __init__(self, features=3, rngs=None):
        type(self).constructed += 1

        def init(key, shape, dtype=jnp.float32):
            Counting.initialized += 1
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
    before = Counting.constructed, Counting.initialized
    for _ in range(3):
        model.apply(variables, X, rngs=DROP, mutable=["batch_stats"])
        ours.ToLinen(Counting).apply(variables, X, rngs=DROP, mutable=["batch_stats"])
    assert (Counting.constructed, Counting.initialized) == before
    assert plans()["size"] == 1
    assert plans()["hits"] == 6
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
    assert plans()["size"] == 1


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


def value_of(model, **kwargs):
    return float(model.apply({}, **kwargs)[0])


class Scaled(nnx.Module):
    def __init__(self, scale, rngs=None):
        self.scale = scale
        self.kind = type(scale).__name__

    def __call__(self):
        return jnp.ones(1) * self.scale, self.kind


def test_equal_arguments_of_different_types_have_different_plans():
    seen = [
        ours.ToLinen(Scaled, args=(scale,)).apply({})[1]
        for scale in (1, 1.0, True, np.float32(1), 1, 1.0, True)
    ]
    assert seen == ["int", "float", "bool", "float32", "int", "float", "bool"]


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zeros_of_different_sign_are_told_apart(zero):
    for value in (0.0, -0.0, zero):
        out, _ = ours.ToLinen(Scaled, args=(value,)).apply({})
        assert np.signbit(np.asarray(out))[0] == np.signbit(value)


class Unhashable:
    __hash__ = None

    def __init__(self, value):
        self.value = value

    def __mul__(self, other):
        return self.value * other

    __rmul__ = __mul__


def test_unhashable_arguments_are_not_planned():
    argument = Unhashable(2.0)

    class Model(nnx.Module):
        def __init__(self, argument, rngs):
            self.value = argument.value

        def __call__(self):
            return jnp.ones(1) * self.value

    model = ours.ToLinen(Model, args=(argument,))
    assert value_of(model) == 2.0
    argument.value = 3.0
    assert value_of(model) == 3.0
    assert plans()["size"] == 0
    assert list(plans()["not_planned"]) == ["arguments that cannot be hashed"]


def test_array_arguments_are_not_planned():
    class Model(nnx.Module):
        def __init__(self, start, rngs):
            self.w = nnx.Param(start)

        def __call__(self):
            return self.w[...]

    for start in (1.0, 2.0):
        assert value_of(ours.ToLinen(Model, args=(jnp.full(1, start),))) == start
        assert value_of(ours.ToLinen(Model, args=(np.full(1, start),))) == start
    assert plans()["size"] == 0


def reasons():
    return " | ".join(plans()["not_planned"])


def test_a_constructor_that_needs_concrete_values_is_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            w = jax.random.normal(rngs.params(), (3,))
            self.sign = "positive" if w[0] > 0 else "negative"

        def __call__(self):
            return self.sign

    model, reference = ours.ToLinen(Model), theirs.ToLinen(Model)
    for key in range(4):
        rngs = {"params": jax.random.key(key)}
        assert model.apply({}, rngs=rngs) == reference.apply({}, rngs=rngs)
    assert "cannot be traced" in reasons()


def test_a_constructor_that_captures_tracers_is_not_planned():
    class Model(nnx.Module):
        def __init__(self, w):
            self.w = nnx.Param(w)

        def __call__(self):
            return self.w[...]

    def make(scale):
        return ours.ToLinen(lambda rngs: Model(jnp.ones(3) * scale))

    held = []

    def make_by_global(scale):
        held[:] = [scale]
        return ours.ToLinen(lambda rngs: Model(jnp.ones(3) * held[0]), name="outer")

    with jax.checking_leaks():
        assert_same(jax.jit(lambda s: make(s).apply({}))(2.0), jnp.full(3, 2.0))
        out = jax.jit(lambda s: (make_by_global(s).apply({}), held.clear())[0])(3.0)
        assert_same(out, jnp.full(3, 3.0))
    assert "a class that cannot be hashed" in reasons()


def test_a_constructor_with_effects_is_not_planned():
    printed = []

    class Model(nnx.Module):
        def __init__(self, rngs):
            jax.debug.callback(lambda: printed.append(1))
            self.w = nnx.Param(jnp.ones(3))

        def __call__(self):
            return self.w[...]

    model = ours.ToLinen(Model)
    for _ in range(2):
        model.apply({})
    jax.effects_barrier()
    assert len(printed) == 2
    assert "effects" in reasons()


class Register:
    """A mutable object of a type that nobody knows."""

    def __init__(self):
        self.calls = 0


def test_static_attributes_of_unknown_types_are_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.register = Register()

        def __call__(self):
            self.register.calls += 1
            return self.register.calls

    model = ours.ToLinen(Model)
    assert [model.apply({}) for _ in range(3)] == [1, 1, 1]
    assert "static attribute 'register' (an instance of Register) at (root)" in reasons()


def test_objects_that_the_caller_gave_are_kept():
    config = Register()

    class Model(nnx.Module):
        def __init__(self, config, rngs):
            self.config = config

        def __call__(self):
            return self.config is config

    model = ours.ToLinen(Model, args=(config,))
    assert [model.apply({}) for _ in range(2)] == [True, True]
    assert plans()["size"] == 1
    assert reasons() == ""


def test_bound_methods_are_not_planned_and_closures_over_the_module_are():
    class Bound(nnx.Module):
        def __init__(self, rngs):
            self.w = nnx.Param(jnp.ones(3))
            self.run = self.double

        def double(self):
            return self.w[...] * 2

        def __call__(self):
            return self.run()

    class Closes(Bound):
        def __init__(self, rngs):
            super().__init__(rngs)
            self.run = lambda: self.w[...] * 3

    given = {"params": {"w": jnp.full(3, 5.0)}}
    for cls, factor in ((Bound, 2), (Closes, 3)):
        for _ in range(2):
            assert_same(ours.ToLinen(cls).apply(given), jnp.full(3, 5.0 * factor))
    assert plans()["hits"] == 2
    assert reasons().count("static attribute 'run'") == 1


def test_linen_modules_that_the_constructor_makes_are_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.inner = nn.Dense(3, name="inner")

        def __call__(self, x):
            return self.inner(x)

    model = ours.ToLinen(Model)
    y, variables = model.init_with_output(RNGS, X)
    for _ in range(2):
        assert_same(model.apply(variables, X), y)
    assert "inner" in reasons()


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
    assert plans()["hits"] == 2
    assert reasons() == ""


def test_a_constructor_that_asks_about_linen_is_not_planned():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.inside = ours.current_linen_module() is not None
            self.initializing = ours.is_linen_initializing()

        def __call__(self):
            return self.inside, self.initializing

    model = ours.ToLinen(Model)
    assert model.init_with_output(RNGS)[0] == (True, True)
    for _ in range(2):
        assert model.apply({}) == (True, False)
    assert "asks about Linen" in reasons()


def test_objects_that_the_constructor_did_not_make_are_not_planned():
    shared = nnx.Linear(3, 3, rngs=nnx.Rngs(0))

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = shared

        def __call__(self, x):
            return self.layer is shared

    assert [ours.ToLinen(Model).apply({}, X) for _ in range(2)] == [True, True]
    assert "did not make" in reasons()


def dtype_of(model):
    return str(model.apply({}).dtype)


class Wide(nnx.Module):
    def __init__(self, rngs):
        self.w = nnx.Param(jnp.ones(3, jnp.float64 if jax.config.jax_enable_x64 else jnp.float32))

    def __call__(self):
        return self.w[...]


def test_x64_has_plans_of_its_own():
    model = ours.ToLinen(Wide)
    assert dtype_of(model) == "float32"
    with jax.enable_x64(True):
        assert dtype_of(model) == "float64"
    assert dtype_of(model) == "float32"
    assert plans()["size"] == 2


class Draws(nnx.Module):
    def __init__(self, rngs):
        self.w = nnx.Param(jax.random.normal(rngs.params(), (3,)))

    def __call__(self):
        return self.w[...]


def test_prng_implementations_have_plans_of_their_own():
    model, reference = ours.ToLinen(Draws), theirs.ToLinen(Draws)
    for name in ("threefry2x32", "rbg", "threefry2x32"):
        with jax.default_prng_impl(name):
            assert_same(model.apply({}), reference.apply({}))
    assert plans()["size"] == 2


def test_meshes_have_plans_of_their_own():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.mesh = str(jax.sharding.get_abstract_mesh())

        def __call__(self):
            return self.mesh

    model = ours.ToLinen(Model)
    outside = model.apply({})
    with jax.set_mesh(jax.make_mesh((1,), ("a",))):
        assert model.apply({}) != outside
    assert model.apply({}) == outside


def test_keys_of_another_kind_have_plans_of_their_own():
    model, reference = ours.ToLinen(Draws), theirs.ToLinen(Draws)
    for key in (jax.random.key(0), jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")):
        assert_same(
            model.apply({}, rngs={"params": key}), reference.apply({}, rngs={"params": key})
        )
    assert plans()["size"] == 3


def make_class(scale):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.scale = scale

        def __call__(self):
            return jnp.ones(1) * self.scale

    return Model


def test_classes_redefined_under_the_same_name_are_told_apart():
    for scale in (1.0, 2.0, 3.0):
        assert value_of_scaled(make_class(scale)) == scale


def value_of_scaled(cls):
    return float(ours.ToLinen(cls).apply({})[0])


def test_a_replaced_constructor_is_seen():
    cls = make_class(1.0)
    assert value_of_scaled(cls) == 1.0

    def other(self, rngs):
        self.scale = 7.0

    cls.__init__ = other
    assert value_of_scaled(cls) == 7.0


def test_functions_with_closures_are_told_apart_by_what_they_close_over():
    class Model(nnx.Module):
        def __init__(self, fn, rngs):
            self.w = nnx.Param(fn(jnp.ones(1)))

        def __call__(self):
            return self.w[...]

    def times(factor):
        return lambda x: x * factor

    for factor in (2.0, 3.0, 2.0):
        assert value_of(ours.ToLinen(Model, args=(times(factor),))) == factor
        bound = functools.partial(lambda f, x: x * f, factor)
        assert value_of(ours.ToLinen(Model, args=(bound,))) == factor


def test_augmenting_is_part_of_the_plan():
    def augment(module, name):
        module.extra = nnx.Param(jnp.zeros(3) + len(name))
        return module

    class Model(nnx.Module):
        def __init__(self, rngs):
            pass

        def __call__(self):
            return self.extra[...] if hasattr(self, "extra") else jnp.zeros(3)

    for name in ("a", "abc", "a"):
        model = ours.ToLinen(Model, nnx_module_augment_fn=augment, name=name)
        assert_same(model.apply({}), jnp.full(3, float(len(name))))
    assert_same(ours.ToLinen(Model).apply({}), jnp.zeros(3))


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
    config = Register()
    reference = weakref.ref(config)

    class Model(nnx.Module):
        def __init__(self, config, rngs):
            self.config = config

        def __call__(self):
            return 1

    ours.ToLinen(Model, args=(config,)).apply({})
    del config
    ours.clear_caches()
    gc.collect()
    assert reference() is None


def test_the_cache_is_bounded_and_can_be_cleared():
    for scale in range(600):
        ours.ToLinen(Scaled, args=(scale,)).apply({})
    assert 0 < plans()["size"] <= 512
    ours.clear_caches()
    assert plans() == {"size": 0, "hits": 0, "misses": 0, "not_planned": {}}
    assert ours.cache_info()["shape_checks"] == {"size": 0, "hits": 0, "misses": 0}


def test_the_off_switch_runs_the_constructor():
    model = ours.ToLinen(Counting)
    variables = model.init(RNGS, X)
    with without_plans():
        before = Counting.constructed
        model.apply(variables, X)
        assert Counting.constructed == before + 1
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
    assert plans()["hits"] == 1
    assert reasons() == ""
