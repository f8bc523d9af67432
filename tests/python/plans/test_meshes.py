"""A plan is one whatever meshes are entered by `with mesh:`, unless the constructor or its
equations depend on them: in every order of contexts the answer, its errors and the constraints in a
jaxpr are those of Flax's bridge."""

import contextlib
import functools
import typing as tp
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.interpreters import pxla
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from support.oracle import assert_same, ours, theirs
from support.planning import plans, without_plans

pytestmark = [
    pytest.mark.usefixtures("fresh_caches"),
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.filterwarnings("ignore:.with mesh.. context manager"),
    pytest.mark.filterwarnings("ignore:pjit has been deprecated"),
    pytest.mark.filterwarnings("ignore:.*jax.experimental.pjit.*"),
    pytest.mark.filterwarnings("ignore:.*thread_resources.*"),
]

KEY = jax.random.key(0)
X = jnp.ones((2, 2))
DEVICE = np.array(jax.devices()[:1]).reshape(1, 1)
MESH = jax.sharding.Mesh(DEVICE, ("a", "b"), axis_types=(AxisType.Auto,) * 2)
OTHER = jax.sharding.Mesh(DEVICE, ("a", "c"), axis_types=(AxisType.Auto,) * 2)

# What a step runs in, from the outside in.
Context = tuple[tp.Callable[[], tp.Any], ...]
enter, enter_other = (lambda: MESH), (lambda: OTHER)
set_mesh, set_other = (lambda: jax.set_mesh(MESH)), (lambda: jax.set_mesh(OTHER))
CONTEXTS: dict[str, Context] = {
    "none": (),
    "entered": (enter,),
    "set": (set_mesh,),
    "set, entered": (set_mesh, enter),
    "entered, set": (enter, set_mesh),
    "set, other entered": (set_mesh, enter_other),
    "set, two entered": (set_mesh, enter, enter_other),
    "other set, entered": (set_other, enter),
}


class Shows(nnx.Module):
    """Returns what it holds."""

    w: nnx.Param[jax.Array]

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.w = nnx.Param(rngs.params.normal((2, 2)))
        self.seen = self.look()
        self.table = nnx.BatchStat(self.values())

    def look(self) -> tp.Any:
        return None

    def values(self) -> jax.Array:
        return jnp.zeros((2, 2))

    def __call__(self, x: jax.Array) -> tp.Any:
        text = np.frombuffer(str(self.seen).encode(), np.uint8)
        return x @ self.w[...] + self.table[...], text


class Annotated(Shows):
    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        if not jax.sharding.get_abstract_mesh().empty:
            self.v = nnx.Param(rngs.params.normal((2, 2)), out_sharding=("a", None))


class OfAMesh(Shows):
    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        self.v = nnx.Param(rngs.params.normal((2, 2)), out_sharding=("a", None), mesh=MESH)


class Constrained(Shows):
    def values(self) -> jax.Array:
        return jax.lax.with_sharding_constraint(jnp.ones((2, 2)), NamedSharding(MESH, P("a")))


class ByNames(Shows):
    """An error without a mesh, and with one that lacks the name."""

    def values(self) -> jax.Array:
        return jax.lax.with_sharding_constraint(jnp.ones((2, 2)), P("b"))


class Tries(Shows):
    def values(self) -> jax.Array:
        try:
            return jax.lax.with_sharding_constraint(jnp.ones((2, 2)), P("b"))
        except (ValueError, RuntimeError) as error:
            self.seen = type(error).__name__
            return jnp.zeros((2, 2))


class InLinenTerms(Shows):
    def values(self) -> jax.Array:
        return nn.with_logical_constraint(jnp.ones((2, 2)), ("rows", None), [("rows", "b")])


class Jitted(Shows):
    def values(self) -> jax.Array:
        return jax.jit(lambda x: jax.lax.with_sharding_constraint(x, P("a")))(jnp.ones((2, 2)))


@jax.jit
def constrained_outside(x: jax.Array) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, P("a"))


class JittedOutside(Shows):
    def values(self) -> jax.Array:
        return constrained_outside(jnp.ones((2, 2)))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from jax.experimental.pjit import pjit

    old_jit = pjit(lambda x: jax.lax.with_sharding_constraint(x, P("a")))
    old_jit_with_shardings = pjit(lambda x: x * 2, in_shardings=P("b"), out_shardings=P("a"))


class AsksForAShape(Shows):
    """JAX has traced the function before, so nothing runs."""

    def look(self) -> tp.Any:
        try:
            return jax.eval_shape(constrained_outside, jnp.ones((2, 2))).shape
        except RuntimeError as error:
            return type(error).__name__


class ThrowsAway(Shows):
    """A plan does not add the constraint: nothing depends on it."""

    def look(self) -> tp.Any:
        try:
            constrained_outside(jnp.ones((2, 2)))
        except RuntimeError as error:
            return type(error).__name__
        return "constrained"


class PlacesNow(Shows):
    def values(self) -> jax.Array:
        with jax.ensure_compile_time_eval():
            try:
                return constrained_outside(jnp.ones((2, 2)))
            except (RuntimeError, ValueError) as error:
                self.seen = type(error).__name__
        return jnp.zeros((2, 2))


class OldJit(Shows):
    def values(self) -> jax.Array:
        return old_jit(jnp.ones((2, 2)))


class OldJitWithShardings(Shows):
    def values(self) -> jax.Array:
        return old_jit_with_shardings(jnp.ones((2, 2)))


class MakesOldJit(Shows):
    def values(self) -> jax.Array:
        return pjit(lambda x: jax.lax.with_sharding_constraint(x, P("a")))(jnp.ones((2, 2)))


class Mapped(Shows):
    def values(self) -> jax.Array:
        constrain = lambda x: jax.lax.with_sharding_constraint(x, P("a"))  # noqa: E731
        return jax.vmap(constrain)(jnp.ones((2, 2)))


class Scanned(Shows):
    def values(self) -> jax.Array:
        def step(carry, x):
            return carry, jax.lax.with_sharding_constraint(x, P("a"))

        return jax.lax.scan(step, 0, jnp.ones((2, 2)))[1]


class ReadsResources(Shows):
    def look(self) -> tp.Any:
        return pxla.thread_resources.env.physical_mesh.axis_names


class ReadsByAString(Shows):
    def look(self) -> tp.Any:
        return getattr(pxla, "thread_resources").env.physical_mesh.shape_tuple  # noqa: B009


class ReadsTheStack(Shows):
    def look(self) -> tp.Any:
        return [env.physical_mesh.axis_names for env in pxla.thread_resources.stack]


def helper() -> tp.Any:
    return pxla.thread_resources.env.physical_mesh


class ReadsByAHelper(Shows):
    def look(self) -> tp.Any:
        return helper().axis_names


class ReadsByAPartial(Shows):
    reader: tp.ClassVar[tp.Any] = functools.partial(lambda _: helper().axis_names, 0)

    def look(self) -> tp.Any:
        return type(self).reader()


class ReadsTheSetting(Shows):
    def look(self) -> tp.Any:
        from jax._src import config

        return [mesh.axis_names for mesh in config.mesh_context_manager.value]


class ReadsTheAbstract(Shows):
    def look(self) -> tp.Any:
        return jax.sharding.get_abstract_mesh().axis_names


class EntersOne(Shows):
    def values(self) -> jax.Array:
        with OTHER:
            return jax.lax.with_sharding_constraint(jnp.ones((2, 2)), P("a"))


class Nested(Shows):
    """A layer inside, made by two equal calls."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        self.layers = nnx.List([ByNames(rngs), ByNames(rngs), nnx.Linear(2, 2, rngs=rngs)])


CLASSES = [
    Shows,
    Annotated,
    OfAMesh,
    Constrained,
    ByNames,
    Tries,
    InLinenTerms,
    Jitted,
    JittedOutside,
    AsksForAShape,
    ThrowsAway,
    PlacesNow,
    OldJit,
    OldJitWithShardings,
    MakesOldJit,
    Mapped,
    Scanned,
    ReadsResources,
    ReadsByAString,
    ReadsTheStack,
    ReadsByAHelper,
    ReadsByAPartial,
    ReadsTheSetting,
    ReadsTheAbstract,
    EntersOne,
    Nested,
]
INDEPENDENT = [Shows, Annotated, OfAMesh, Constrained, Jitted, Mapped, Scanned]


def constraints(jaxpr: tp.Any) -> list[str]:
    """What the equations of a jaxpr, and of those inside it, say of meshes."""
    found: list[str] = []
    for equation in jaxpr.eqns:
        named = {"sharding", "context_mesh", "ctx_mesh"} & set(equation.params)
        if equation.primitive.name == "sharding_constraint":
            found += [f"{name}={equation.params[name]}" for name in sorted(named)]
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found += constraints(inner)
    return found


def outcome(cls: tp.Any, function: tp.Callable[..., tp.Any], *args: tp.Any) -> tp.Any:
    """The values and the constraints of a traced function, or its error."""
    try:
        program = jax.make_jaxpr(lambda *args: function(*args))(*args)
    except Exception as error:
        return type(error).__name__
    found = [] if cls is ThrowsAway else constraints(program.jaxpr)
    return jax.eval_shape(lambda *args: function(*args), *args), found


def initialized(bridge: tp.Any, cls: tp.Any) -> tp.Any:
    class Two(nn.Module):
        @nn.compact
        def __call__(self, x):
            return [bridge.ToLinen(cls, name=name)(x) for name in ("first", "second")]

    return outcome(cls, Two().init_with_output, KEY, X)


def applied(bridge: tp.Any, cls: tp.Any, variables: tp.Any) -> tp.Any:
    """With all variables what is seen of the module is compared, not the equations, since Flax's
    bridge adds those of the constructor; without them both."""
    model = bridge.ToLinen(cls)
    try:
        seen = jax.jit(lambda v: model.apply(v, X))(variables)
    except Exception as error:
        seen = type(error).__name__
    return seen, outcome(cls, lambda: model.apply({}, X, rngs=KEY))


@contextlib.contextmanager
def inside(name: str) -> tp.Iterator[None]:
    with contextlib.ExitStack() as entered:
        for context in CONTEXTS[name]:
            entered.enter_context(context())
        yield


def variables_of(cls: tp.Any) -> tp.Any:
    with inside("set, entered"):
        return jax.jit(lambda key: theirs.ToLinen(cls).init(key, X))(KEY)


def results(bridge: tp.Any, cls: tp.Any, variables: tp.Any, name: str) -> tp.Any:
    with inside(name):
        return applied(bridge, cls, variables), initialized(bridge, cls)


@pytest.mark.parametrize("cls", CLASSES)
def test_what_depends_on_meshes_is_as_with_flax_in_each_context_after_each_other(cls):
    variables = variables_of(cls)
    expected = {name: results(theirs, cls, variables, name) for name in CONTEXTS}
    names = list(CONTEXTS)
    for first in range(len(names)):
        ours.clear_caches()
        for name in [*names[first:], *names[: first + 1]]:
            assert_same(results(ours, cls, variables, name), expected[name])


@pytest.mark.feature("plans")
@pytest.mark.parametrize("cls", INDEPENDENT)
def test_one_plan_serves_whatever_meshes_are_entered(cls):
    variables = variables_of(cls)
    ours.clear_caches()
    same = ("set", "set, entered", "entered, set", "set, other entered", "set, two entered")
    for name in same:
        with inside(name):
            jax.make_jaxpr(lambda v: ours.ToLinen(cls).apply(v, X))(variables)
    assert plans()["not_planned"] == {}
    assert (plans()["misses"], plans()["hits"]) == (1, len(same) - 1)


@pytest.mark.feature("plans")
def test_what_was_entered_is_named_where_it_matters():
    for mesh in (MESH, OTHER):
        with jax.set_mesh(MESH), mesh:
            jax.make_jaxpr(lambda: ours.ToLinen(ReadsResources).apply({}, X, rngs=KEY))()
    (changed,) = plans()["rebuilt"]
    assert "mesh" in changed or "thread_resources" in changed


def test_plans_on_and_off_are_alike_under_an_entered_mesh():
    variables = variables_of(Nested)
    with jax.set_mesh(MESH), MESH:
        mine = applied(ours, Nested, variables)
        with without_plans():
            assert_same(applied(ours, Nested, variables), mine)
