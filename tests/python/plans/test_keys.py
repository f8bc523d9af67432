"""Keys of plans and conversions: what must be told apart, and code that runs in a look-up."""

import dataclasses
import functools
import gc
import typing as tp
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from flax.core import meta
from flax.nnx import variablelib

from support.oracle import assert_same, ours, theirs
from support.planning import plans, value_of

# Models are called without variables, to see what their constructor makes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.usefixtures("fresh_caches"),
]

X = jnp.arange(6.0).reshape(2, 3)


class Holds(nnx.Module):
    """Says what its argument is."""

    def __init__(self, value, rngs=None):
        self.text = repr(value() if callable(value) else value)

    def __call__(self):
        return self.text


def says(value):
    return ours.ToLinen(Holds, args=(value,)).apply({})


class Clears:
    """Clears the caches while it is looked up."""

    on = False

    def __hash__(self):
        return 7

    def __eq__(self, other):
        if Clears.on:
            ours.clear_caches()
        return type(other) is Clears

    def __repr__(self):
        return "Clears()"


def test_caches_may_be_cleared_while_a_key_is_looked_up():
    Clears.on = False
    says(Clears())
    Clears.on = True
    try:
        for _ in range(3):
            assert says(Clears()) == "Clears()"
    finally:
        Clears.on = False


def test_empty_containers_are_told_apart():
    for _ in range(2):
        assert says(()) == "()"
        assert says({}) == "FrozenDict({})"


def test_a_tuple_never_passes_for_a_key_of_another_kind():
    for argument, expected in (([1, 2], "2"), (("list", (1, 2)), "3")):
        assert (
            says(functools.partial(lambda a: len(a) + isinstance(a, tuple), argument)) == expected
        )


def test_equal_code_with_other_globals_is_told_apart():
    source = "def make(a):\n  def function():\n    return G + a\n  return function\n"
    for value in (1, 2):
        names = {"G": value}
        exec(source, names)
        assert says(names["make"](10)) == str(value + 10)


def test_a_key_keeps_no_class_alive_that_a_function_closes_over():
    def make():
        class Local:
            pass

        return (lambda: Local.__name__), weakref.ref(Local)

    function, reference = make()

    assert says(function) == "'Local'"
    del function
    gc.collect()
    assert reference() is None


def test_an_empty_level_is_no_conflict():
    variables = {"batch_stats": {"a": jnp.ones(1)}, "params": {"a": {"b": {}}, "c": jnp.ones(1)}}
    mine, reference = (b.linen_vars_to_nnx_attrs(variables) for b in (ours, theirs.variables))
    assert_same(mine, reference)


def test_an_empty_collection_registers_no_type():
    ours.linen_vars_to_nnx_attrs({"keys_test_unknown": {}})
    assert "keys_test_unknown" not in variablelib.VariableTypeCache


class Box:
    """A box that is none by inheritance."""

    def __init__(self, value):
        self.value = value

    def unbox(self):
        return self.value


meta.AxisMetadata.register(Box)


def test_boxes_that_are_registered_as_such_are_opened():
    params = ours.ToLinen(nnx.Linear, args=(3, 2)).init(jax.random.key(0), X)["params"]
    boxed = {"params": {**params, "kernel": Box(params["kernel"])}}
    assert_same(
        ours.ToLinen(nnx.Linear, args=(3, 2)).apply(boxed, X),
        theirs.ToLinen(nnx.Linear, args=(3, 2)).apply(boxed, X),
    )


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


def dtype_of(model):
    return str(model.apply({}).dtype)


class Wide(nnx.Module):
    def __init__(self, rngs):
        self.w = nnx.Param(jnp.ones(3, jnp.float64 if jax.config.jax_enable_x64 else jnp.float32))

    def __call__(self):
        return self.w[...]


@pytest.mark.feature("plans")
def test_x64_has_plans_of_its_own():
    model = ours.ToLinen(Wide)
    assert dtype_of(model) == "float32"
    with jax.enable_x64(True):
        assert dtype_of(model) == "float64"
    assert dtype_of(model) == "float32"
    assert plans()["hits"] > 0


class Draws(nnx.Module):
    def __init__(self, rngs):
        self.w = nnx.Param(jax.random.normal(rngs.params(), (3,)))

    def __call__(self):
        return self.w[...]


@pytest.mark.feature("plans")
def test_prng_implementations_have_plans_of_their_own():
    model, reference = ours.ToLinen(Draws), theirs.ToLinen(Draws)
    for name in ("threefry2x32", "rbg", "threefry2x32"):
        with jax.default_prng_impl(name):
            assert_same(model.apply({}), reference.apply({}))
    assert plans()["hits"] > 0


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


@pytest.mark.feature("plans")
def test_keys_of_another_kind_have_plans_of_their_own():
    model, reference = ours.ToLinen(Draws), theirs.ToLinen(Draws)
    kinds = [jax.random.key(0), jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")]
    for key in kinds * 2:
        rngs = {"params": key}
        assert_same(model.apply({}, rngs=rngs), reference.apply({}, rngs=rngs))
    assert plans()["hits"] > 0


def make_class(scale):
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.scale = scale

        def __call__(self):
            return jnp.ones(1) * self.scale

    return Model


def test_classes_redefined_under_the_same_name_are_told_apart():
    for scale in (1.0, 2.0, 3.0):
        assert value_of(ours.ToLinen(make_class(scale))) == scale


def test_a_replaced_constructor_is_seen():
    cls = make_class(1.0)
    assert value_of(ours.ToLinen(cls)) == 1.0

    def other(self, rngs):
        self.scale = 7.0

    cls.__init__ = other
    assert value_of(ours.ToLinen(cls)) == 7.0


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


@dataclasses.dataclass(frozen=True)
class Config:
    scale: float


def test_arguments_that_are_equal_but_not_the_same_have_plans_of_their_own():
    class Model(nnx.Module):
        def __init__(self, config, rngs):
            self.text = repr(config.scale)

        def __call__(self):
            return self.text

    models = [bridge.ToLinen(Model, (Config(v),)) for bridge in (theirs, ours) for v in (1, 1.0)]
    assert [model.apply({}) for model in models] == ["1", "1.0", "1", "1.0"]


class Mapped(nn.Module):
    """Calls a layer over a named axis, if it has a name."""

    cls: tp.Any
    axis: str | None

    @nn.compact
    def __call__(self, x):
        inner = lambda x: ours.ToLinen(self.cls).apply({}, x)  # noqa: E731
        return jax.vmap(inner, axis_name=self.axis)(x) if self.axis else inner(x[0])


@pytest.mark.feature("plans")
@pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters")
def test_a_plan_is_one_whatever_the_named_axes_unless_code_asks_for_them():
    class Plain(nnx.Module):
        def __init__(self, rngs):
            self.scale = 2.0

        def __call__(self, x):
            return x * self.scale

    class Asking(Plain):
        def __init__(self, rngs):
            try:
                self.scale = float(jax.lax.axis_size("i"))
            except NameError:
                self.scale = -1.0

    class Swapping(Plain):
        """Uses the axis in an operation whose result is thrown away."""

        def __init__(self, rngs):
            try:
                jax.lax.pswapaxes(jnp.ones((3, 3)), "i", 0)
                self.scale = 3.0
            except NameError:
                self.scale = -1.0

    x = jnp.ones((3, 2))
    for cls, expected in (
        (Plain, [2.0] * 3),
        (Asking, [-1.0, 3.0, -1.0]),
        (Swapping, [-1.0, 3.0, -1.0]),
    ):
        ours.clear_caches()
        for _ in range(2):
            found = [float(Mapped(cls, axis).apply({}, x).ravel()[0]) for axis in (None, "i", "j")]
            assert found == expected
        if cls is not Swapping:  # what it does is an effect where there is the axis
            assert plans()["not_planned"] == {}
            assert plans()["misses"] == (1 if cls is Plain else 3)


@jax.jit
def grown(x):
    return jnp.concatenate([x] * jax.lax.axis_size("i"))


checkpointed = jax.checkpoint(lambda x: jnp.concatenate([x] * jax.lax.axis_size("i")))


def step(carry, x):
    return carry * jax.lax.axis_size("i"), x


# How a constructor learns of the axes from what JAX has traced before, without any code that runs.
TRACED_BEFORE = {
    "called": lambda: grown(jnp.ones(1)).sum(),
    "shape": lambda: float(jax.eval_shape(grown, jnp.ones(1)).shape[0]),
    "own shape": lambda: float(grown.eval_shape(jnp.ones(1)).shape[0]),
    "lowered": lambda: float(grown.trace(jnp.ones(1)).out_info.shape[0]),
    "jitted again": lambda: jax.jit(grown.__wrapped__)(jnp.ones(1)).sum(),
    "jaxpr": lambda: float(jax.make_jaxpr(grown)(jnp.ones(1)).out_avals[0].shape[0]),
    "scanned": lambda: jax.lax.scan(step, 1.0, None, length=1)[0],
    "checkpointed": lambda: checkpointed(jnp.ones(1)).sum(),
    "in a vmap": lambda: jax.vmap(grown)(jnp.ones((1, 1))).sum(),
}


@pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters")
@pytest.mark.parametrize("name", TRACED_BEFORE)
@pytest.mark.parametrize("order", [(3, 4, 3), (4, 3, 4)])
def test_functions_that_were_traced_under_other_axes_are_not_taken_for_constant(name, order):
    class Scaled(nnx.Module):
        def __init__(self, rngs):
            value = TRACED_BEFORE[name]()
            self.scale = nnx.Cache(jnp.asarray(value, jnp.float32))

        def __call__(self, x):
            return x * self.scale[...]

    def run(bridge, size):
        def inner(x):
            model = bridge.ToLinen(Scaled)
            initialized = [model.init_with_output({}, x)[0] for _ in range(2)]
            return jnp.stack([model.apply({}, x), *initialized])

        return jax.vmap(lambda x: jax.jit(lambda x: inner(x))(x), axis_name="i")(jnp.ones(size))

    for size in order:  # JAX keeps what it has traced
        run(theirs, size)
    ours.clear_caches()
    for size in order:
        assert_same(run(ours, size), run(theirs, size))


class Ruled(nnx.Module):
    def __init__(self):
        self.rules = str(nn.get_logical_axis_rules())

    def __call__(self):
        return self.rules


@pytest.mark.parametrize(
    "rules",
    [[["rows", "a"]], [("rows", ["a"])], [{"rows": "a"}], (("rows", "a"),)],
    ids=["lists", "list in a tuple", "dict", "tuples"],
)
def test_logical_axis_rules_that_change_in_place_make_another_plan(rules):
    def run(bridge):
        return bridge.ToLinen(Ruled, skip_rng=True).apply({})

    with nn.logical_axis_rules(rules):
        assert run(ours) == run(theirs) == str(rules)
        if isinstance(rules, list):
            inner = rules[0]
            if isinstance(inner, list):
                inner[1] = "b"
            elif isinstance(inner, dict):
                inner["rows"] = "b"
            else:
                inner[1].append("b")
        assert run(ours) == run(theirs) == str(rules)
        if isinstance(rules, list):
            rules.append(("columns", "a"))
        assert run(ours) == run(theirs) == str(rules)
    with nn.logical_axis_rules((("rows", "b"),)):
        assert run(ours) == run(theirs)
    assert run(ours) == run(theirs)


@pytest.mark.feature("plans")
def test_equal_logical_axis_rules_share_a_plan():
    for _ in range(3):
        with nn.logical_axis_rules([["rows", "a"]]):
            ours.ToLinen(Ruled, skip_rng=True).apply({})
    assert (plans()["misses"], plans()["hits"]) == (1, 2)
