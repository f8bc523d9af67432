"""Linen's shape check in a ToNNX: remembered, and never weaker than Flax's."""

import flax
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs
from support.planning import COUNTS, LOG

pytestmark = pytest.mark.usefixtures("fresh_caches", "no_interrupting_threads")

X = jnp.arange(6.0).reshape(2, 3)


def checks():
    return ours.cache_info()["shape_checks"]


class Traced(nn.Module):
    """Tells when its initializer is traced."""

    features: int = 3

    @nn.compact
    def __call__(self, x):
        return x @ self.param("w", Traced.init, (x.shape[-1], self.features))

    @staticmethod
    def init(key, shape):
        LOG.info("traced")
        return jax.random.normal(key, shape)


@pytest.mark.feature("shape_checks")
def test_an_initializer_is_not_traced_again():
    model = ours.ToNNX(Traced(), rngs=nnx.Rngs(0)).lazy_init(X)
    model(X)
    before = COUNTS["traced"]
    for _ in range(3):
        model(X)
    assert COUNTS["traced"] == before


def test_a_wrong_shape_is_still_flax_s_error():
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).lazy_init(X)
    for _ in range(2):
        model(X)
        for wrong in ((4, 3), (3, 4), (3,)):
            broken = nnx.clone(model)
            broken.kernel = nnx.Param(jnp.ones(wrong))
            with pytest.raises(flax.errors.ScopeParamShapeError):
                broken(X)
    assert model(X).shape == (2, 3)


INIT = jax.nn.initializers
# An initializer, and shapes that it gets one after the other.
INITIALIZERS = {
    "zeros": (INIT.zeros, (2, 3), (4, 5)),
    "ones of a list": (INIT.ones, [2], [3], (4,)),
    "normal": (INIT.normal(0.1), (2, 3), (3, 2), (2, 3, 4), ()),
    "truncated normal": (INIT.truncated_normal(0.1), (2, 3), (3, 2), (3,)),
    "uniform": (INIT.uniform(2.0), (2,), (3,)),
    "uniform of an array": (INIT.uniform(jnp.ones(3)), (2, 3), (2, 4), (1, 3)),
    "normal of an array": (INIT.normal(jnp.ones((2, 1, 3))), (2, 1, 3), (1, 3), (2, 3)),
    "lecun": (INIT.lecun_normal(), (2, 3), (3, 2), (2,), (0, 2), (2, 3, 4), (2, 0)),
    "lecun with axes": (INIT.lecun_normal(in_axis=(0, 1), out_axis=(2, 3)), (2, 3, 1, 2), (3, 2)),
    "wrong mode": (INIT.variance_scaling(1.0, "fan", "normal"), (2, 3), (3, 2)),
    "complex": (INIT.he_uniform(dtype=jnp.complex64), (2, 3), (4, 3)),
    "constant": (INIT.constant(3.0), (2, 3), (3, 2)),
    "constant of an array": (INIT.constant(jnp.ones(3)), (2, 3), (3,), (2, 4)),
    "orthogonal": (INIT.orthogonal(), (2, 3), (3, 2), (3,)),
    "delta orthogonal": (INIT.delta_orthogonal(), (1, 2, 3), (1, 3, 2)),
    "of the user": (lambda key, shape: jnp.zeros(shape if shape[0] < 4 else (1,)), (2, 3), (4, 3)),
    "wrapped": (nn.with_partitioning(INIT.lecun_normal(), ("a", None)), (2, 3), (3, 2), (2,)),
    "renamed": (lambda key, shape: jnp.zeros(shape[::-1]), (2, 2), (2, 3)),
}
INITIALIZERS["renamed"][0].__qualname__ = "zeros"
INITIALIZERS["renamed"][0].__module__ = INIT.zeros.__module__


@pytest.mark.parametrize("kind", INITIALIZERS)
def test_an_initializer_is_checked_for_every_shape_as_by_flax(kind):
    init_fn, *shapes = INITIALIZERS[kind]

    class Holds(nn.Module):
        shape: tuple[int, ...]

        @nn.compact
        def __call__(self):
            return self.param("w", init_fn, self.shape)

    def outcome(b, asked, given):
        model = b.ToNNX(Holds(asked), rngs=nnx.Rngs(0))
        model.w = nnx.Param(jnp.ones(given))
        try:
            return model()
        except Exception as error:  # of the initializer, or that of Flax
            return type(error), str(error)

    for given in (None, (2, 3), (3, 2), (1,), ()):
        for asked in (shapes, shapes[::-1]):
            ours.clear_caches()
            for shape in asked:
                mine, expected = (
                    outcome(b, shape, shape if given is None else given) for b in (ours, theirs)
                )
                assert_same(mine, expected)


@pytest.mark.parametrize("by_name", [True, False])
def test_an_initializer_with_a_sharding_is_checked_for_every_shape(by_name):
    mesh = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))

    class Holds(nn.Module):
        length: int

        @nn.compact
        def __call__(self):
            if by_name:
                return self.param("w", INIT.zeros, (self.length,), out_sharding=sharding)
            return self.param("w", INIT.zeros, (self.length,), jnp.float32, sharding)

    for length in (2, 3, 2):
        model = ours.ToNNX(Holds(length), rngs=nnx.Rngs(0))
        model.w = nnx.Param(jnp.ones(length))
        assert model().shape == (length,)
    assert checks()["hits"] <= 1  # of the shape that came twice, where it is remembered at all


@pytest.mark.feature("shape_checks")
def test_one_check_of_an_initializer_of_jax_stands_for_all_lengths():
    class Wide(nn.Module):
        @nn.compact
        def __call__(self, x):
            for features in (2, 3, 4, 5):
                x = nn.Dense(features)(x)
            return x

    model = ours.ToNNX(Wide(), rngs=nnx.Rngs(0)).lazy_init(X)
    model(X)
    assert checks()["misses"] == 2  # a kernel and a bias
    assert checks()["hits"] == 6


def test_the_same_parameter_with_other_arguments_is_checked_anew():
    model = ours.ToNNX(Traced(), rngs=nnx.Rngs(0)).lazy_init(X)
    model(X)
    with pytest.raises(flax.errors.ScopeParamShapeError):
        model(jnp.ones((2, 4)))


@pytest.mark.feature("shape_checks")
def test_closures_with_other_contents_are_checked_anew():
    class Closes(nn.Module):
        extra: int

        @nn.compact
        def __call__(self, x):
            extra = self.extra

            def init(key, shape):
                return jnp.ones((*shape, extra))

            return x.sum() * self.param("w", init, (3,))

    model = ours.ToNNX(Closes(2), rngs=nnx.Rngs(0)).lazy_init(X)
    model(X)
    model(X)
    assert checks()["hits"] > 0
    model.to_nnx__module = Closes(4)
    with pytest.raises(flax.errors.ScopeParamShapeError):
        model(X)


def test_an_initializer_with_an_array_argument_is_checked_each_time():
    class WithArray(nn.Module):
        @nn.compact
        def __call__(self, x):
            start = jnp.ones(3)  # an array is no static argument
            return x * self.param("w", lambda key, value: value, start)

    results = []
    for bridge in (ours, theirs):
        model = bridge.lazy_init(bridge.ToNNX(WithArray(), rngs=nnx.Rngs(0)), X)
        results.append([model(X), model(X)])
    assert_same(results[0], results[1])
    assert checks()["hits"] == 0


class Step(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        return nn.Dense(3, name="step")(x), None


class Everything(nn.Module):
    """Boxes, parameters that are pytrees, shared scopes and lifted transforms."""

    @nn.compact
    def __call__(self, x):
        boxed = nn.Dense(
            3, kernel_init=nn.with_partitioning(nn.initializers.ones, (None, None)), name="boxed"
        )
        x = boxed(x)
        tree = self.param("tree", lambda key: {"a": jnp.ones(3), "b": (jnp.zeros(3),)})
        raw = self.param(
            "raw", nn.with_partitioning(nn.initializers.ones, ("a",)), (3,), unbox=False
        )
        x = x * tree["a"] + tree["b"][0] + raw.unbox()

        x, _ = nn.scan(
            Step,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=2,
        )(name="scanned")(x, None)
        x = nn.remat(nn.Dense)(3, name="rematted")(x)
        self.sow("intermediates", "seen", x)
        return x


@pytest.mark.parametrize("mutable", [False, ["intermediates"]])
@pytest.mark.parametrize("capture", [False, True])
def test_all_of_linen_behaves_as_before(mutable, capture):
    results = []
    with nnx.use_eager_sharding(False):
        for bridge in (ours, theirs):
            model = bridge.lazy_init(bridge.ToNNX(Everything(), rngs=nnx.Rngs(0)), X)
            kwargs = {"capture_intermediates": True, "mutable": ["intermediates"]}
            out = [model(X, **(kwargs if capture else {"mutable": mutable})) for _ in range(2)]
            results.append((out, nnx.to_pure_dict(nnx.state(model))))
    assert_same(results[0], results[1])


def test_interceptors_see_every_call():
    seen = []

    def interceptor(next_fun, args, kwargs, context):
        seen.append((type(context.module).__name__, context.method_name))
        return next_fun(*args, **kwargs)

    model = ours.ToNNX(nn.Sequential([nn.Dense(3), nn.Dense(2)]), rngs=nnx.Rngs(0)).lazy_init(X)
    for _ in range(2):
        seen.clear()
        with nn.intercept_methods(interceptor):
            model(X)
        assert [s for s in seen if s[1] == "__call__"] == [
            ("Sequential", "__call__"),
            ("Dense", "__call__"),
            ("Dense", "__call__"),
        ]


@pytest.mark.feature("shape_checks")
def test_the_check_in_a_shared_scope_is_remembered_too():
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="dense")(x)

    class Outer(nn.Module):
        def setup(self):
            self.inner = Inner()
            nn.share_scope(self, self.inner)

        def __call__(self, x):
            return self.inner(x)

    results = []
    for bridge in (ours, theirs):
        model = bridge.lazy_init(bridge.ToNNX(Outer(), rngs=nnx.Rngs(0)), X)
        results.append(([model(X), model(X)], nnx.to_pure_dict(nnx.state(model))))
    assert_same(results[0], results[1])
    assert checks()["hits"] > 0


@pytest.mark.parametrize("lift", [lambda target: target, nn.remat], ids=["plain", "remat"])
def test_each_trace_constrains_a_boxed_parameter_to_its_sharding_once(lift):
    mesh = jax.make_mesh((1,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    kernel = nn.with_partitioning(nn.initializers.ones, ("a", None), mesh=mesh)

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return lift(nn.Dense)(3, kernel_init=kernel)(x)

    variables = Outer().init(jax.random.key(0), X)
    constraints = str(jax.make_jaxpr(Outer().apply)(variables, X)).count("sharding_constraint")
    assert constraints > 0
    graphdef, state = nnx.split(ours.ToNNX(Outer(), rngs=nnx.Rngs(0)).lazy_init(X))
    for _ in range(3):
        program = str(jax.make_jaxpr(lambda s, x: nnx.merge(graphdef, s)(x))(state, X))
        assert program.count("sharding_constraint") == constraints
