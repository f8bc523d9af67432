"""Both wrappers under Linen's, NNX's and JAX's transformations, against Flax's bridge."""

import functools

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, assert_same_module, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
DROP = {"dropout": jax.random.key(5)}
SIDES = {"ours": ours, "theirs": theirs}


class Block(nnx.Module):
    """Parameters, statistics and dropout in one layer."""

    def __init__(self, features: int, rngs: nnx.Rngs):
        self.linear = nnx.Linear(features, features, rngs=rngs)
        self.norm = nnx.BatchNorm(features, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return x + self.drop(self.norm(self.linear(x)))


class LinenBlock(nn.Module):
    features: int = 3

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.features)(x)
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dropout(0.5, deterministic=False)(x)


def scanned(bridge):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            def body(module, carry):
                return module(carry), None

            layers = bridge.ToLinen(Block, args=(3,), name="layers")
            scan = nn.scan(
                body,
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True, "dropout": True},
                length=4,
            )
            return scan(layers, x)[0]

    return Outer()


def scanned_class(bridge):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            class Step(nn.Module):
                @nn.compact
                def __call__(self, carry, _):
                    return bridge.ToLinen(Block, args=(3,))(carry), None

            scan = nn.scan(
                Step,
                variable_axes={"params": 1, "batch_stats": 0},
                split_rngs={"params": True, "dropout": True},
                length=3,
            )
            return scan()(x, None)[0]

    return Outer()


def vmapped(bridge):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            many = nn.vmap(
                bridge.ToLinen,
                variable_axes={"params": 0, "batch_stats": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=None,
                axis_size=3,
            )
            return many(Block, args=(3,))(x)

    return Outer()


def rematted(bridge):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.remat(bridge.ToLinen)(Block, args=(3,))(x)

    return Outer()


def jitted(bridge):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.jit(bridge.ToLinen)(Block, args=(3,))(x)

    return Outer()


LINEN = [scanned, scanned_class, vmapped, rematted, jitted]


@pytest.mark.parametrize("make", LINEN, ids=lambda make: make.__name__)
def test_linen_transforms_of_to_linen_give_the_same(make):
    mine, reference = make(ours), make(theirs)
    variables = reference.init(RNGS, X)
    assert_same(mine.init(RNGS, X), variables)
    assert_same(
        mine.apply(variables, X, rngs=DROP, mutable=["batch_stats"]),
        reference.apply(variables, X, rngs=DROP, mutable=["batch_stats"]),
    )
    assert_same(
        jax.jit(lambda v: mine.apply(v, X, rngs=DROP))(variables),
        jax.jit(lambda v: reference.apply(v, X, rngs=DROP))(variables),
    )


@pytest.mark.parametrize("make", LINEN, ids=lambda make: make.__name__)
def test_gradients_through_linen_transforms_are_the_same(make):
    variables = make(theirs).init(RNGS, X)

    def gradient(module):
        def loss(params):
            out = module.apply({**variables, "params": params}, X, rngs=DROP)
            return jnp.sum(out**2)

        return jax.grad(loss)(variables["params"])

    assert_same(gradient(make(ours)), gradient(make(theirs)))


@pytest.mark.parametrize("make", LINEN, ids=lambda make: make.__name__)
def test_abstract_init_gives_the_same_shapes(make):
    assert_same(
        jax.eval_shape(make(ours).init, RNGS, X), jax.eval_shape(make(theirs).init, RNGS, X)
    )


@pytest.mark.parametrize("lift", [nn.scan, nn.vmap, nn.remat, nn.jit], ids=lambda f: f.__name__)
def test_to_linen_class_works_under_every_lift_as_to_linen_does(lift):
    options = {
        nn.scan: {
            "variable_axes": {"params": 0, "batch_stats": 0},
            "split_rngs": {"params": True, "dropout": True},
            "length": 2,
        },
        nn.vmap: {
            "variable_axes": {"params": 0, "batch_stats": 0},
            "split_rngs": {"params": True, "dropout": True},
            "in_axes": None,
            "axis_size": 2,
        },
    }.get(lift, {})

    class Step(Block):
        def __call__(self, x, *rest):
            out = super().__call__(x)
            return (out, None) if rest else out

    inputs = (X, None) if lift is nn.scan else (X,)
    if lift is nn.scan:
        options["in_axes"] = nn.broadcast

    class Mine(nn.Module):
        @nn.compact
        def __call__(self):
            return lift(ours.to_linen_class(Step), **options)(features=3, name="layer")(*inputs)

    class Reference(nn.Module):
        @nn.compact
        def __call__(self):
            kwargs = {"features": 3}
            return lift(theirs.ToLinen, **options)(Step, kwargs=kwargs, name="layer")(*inputs)

    variables = Reference().init(RNGS)
    assert_same(Mine().init(RNGS), variables)
    assert_same(
        Mine().apply(variables, rngs=DROP, mutable=True),
        Reference().apply(variables, rngs=DROP, mutable=True),
    )


def make_to_nnx(bridge):
    model = bridge.ToNNX(LinenBlock(), rngs=nnx.Rngs(0, dropout=1))
    return bridge.lazy_init(model, X)


def test_nnx_jit_gives_the_same_output_and_state():
    outputs = []
    for bridge in SIDES.values():
        model = make_to_nnx(bridge)
        out = nnx.jit(lambda m, x: m(x, mutable=["batch_stats"]))(model, X)
        outputs.append((out, model))
    assert_same(outputs[0][0], outputs[1][0])
    assert_same_module(outputs[0][1], outputs[1][1])


def test_split_and_merge_keep_the_module():
    model = make_to_nnx(ours)
    graphdef, state = nnx.split(model)
    again = nnx.merge(graphdef, jax.tree.map(lambda a: a, state))
    assert type(again) is ours.ToNNX
    assert_same_module(again, model)
    assert_same(again(X), model(X))


def test_nnx_gradients_are_the_same():
    gradients = []
    for bridge in SIDES.values():
        model = make_to_nnx(bridge)

        def loss(m):
            return jnp.sum(m(X, mutable=["batch_stats"]) ** 2)

        gradients.append(nnx.to_pure_dict(nnx.grad(loss)(model)))
    assert_same(gradients[0], gradients[1])


def test_jax_gradients_through_the_state_are_the_same():
    gradients = []
    for bridge in SIDES.values():
        model = make_to_nnx(bridge)
        graphdef, params, rest = nnx.split(model, nnx.Param, ...)

        def loss(p, graphdef=graphdef, rest=rest):
            model = nnx.merge(graphdef, p, rest, copy=True)
            return jnp.sum(model(X, mutable=["batch_stats"]) ** 2)

        gradients.append(nnx.to_pure_dict(jax.grad(loss)(params)))
    assert_same(gradients[0], gradients[1])


def test_nnx_eval_shape_gives_the_same_abstract_state():
    states = []
    for bridge in SIDES.values():
        abstract = nnx.eval_shape(functools.partial(make_to_nnx, bridge))
        states.append(nnx.to_pure_dict(nnx.state(abstract, nnx.Param)))
    assert_same(states[0], states[1])


def make_stack(bridge):
    @nnx.split_rngs(splits=3)
    @nnx.vmap(in_axes=0, out_axes=0, axis_size=3)
    def make(rngs):
        return bridge.lazy_init(bridge.ToNNX(LinenBlock(), rngs=rngs), X)

    return make(nnx.Rngs(0, dropout=1))


@pytest.mark.parametrize("transform", ["vmap", "scan"])
def test_a_stack_made_by_nnx_vmap_runs_alike(transform):
    results = []
    for bridge in SIDES.values():
        stack = make_stack(bridge)
        if transform == "vmap":
            run = nnx.vmap(lambda m, x: m(x, mutable=["batch_stats"]), in_axes=(0, None))
        else:
            run = nnx.scan(
                lambda m, x: m(x, mutable=["batch_stats"]),
                in_axes=(0, nnx.Carry),
                out_axes=nnx.Carry,
            )
        out = run(stack, X)
        results.append((out, stack))
    assert_same(results[0][0], results[1][0])
    assert_same_module(results[0][1], results[1][1])


def three_deep_from_nnx(bridge):
    class Middle(nn.Module):
        @nn.compact
        def __call__(self, x):
            return bridge.ToLinen(Block, args=(3,), name="block")(nn.Dense(3)(x))

    class Outer(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(3, 3, rngs=rngs)
            self.middle = bridge.ToNNX(Middle(), rngs=rngs)

        def __call__(self, x):
            return self.middle(self.first(x), mutable=["batch_stats"])

    return bridge.lazy_init(Outer(nnx.Rngs(0, dropout=1)), X)


def test_nnx_holding_linen_holding_nnx_gives_the_same():
    mine, reference = three_deep_from_nnx(ours), three_deep_from_nnx(theirs)
    assert_same_module(mine, reference)
    for _ in range(2):
        assert_same(mine(X), reference(X))
    assert_same_module(mine, reference)


def test_to_linen_holding_to_nnx_holding_to_linen_keeps_its_state():
    class Innermost(nn.Module):
        @nn.compact
        def __call__(self, x):
            return ours.ToLinen(Block, args=(3,), name="block")(nn.Dense(3, name="dense")(x))

    class Middle(nnx.Module):
        def __init__(self, rngs):
            self.scale = nnx.Param(jnp.full((3,), 2.0))
            self.linen = ours.ToNNX(Innermost(), rngs=rngs)

        def __call__(self, x):
            return self.linen(x) * self.scale[...]

    model = ours.ToLinen(Middle)
    variables = model.init(RNGS, X)
    paths = {
        "/".join(str(k.key) for k in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(variables)
    }
    assert paths == {
        "params/scale",
        "params/linen/dense/kernel",
        "params/linen/dense/bias",
        "params/linen/block/linear/kernel",
        "params/linen/block/linear/bias",
        "params/linen/block/norm/scale",
        "params/linen/block/norm/bias",
        "batch_stats/linen/block/norm/mean",
        "batch_stats/linen/block/norm/var",
    }
    # The numbers are those of the Linen module run by itself on these variables.
    inner = {c: v["linen"] for c, v in variables.items()}

    def native(mutable, rngs):
        class Keys(nn.Module):
            """Draws the keys as the wrapper does, to run the Linen module natively."""

            @nn.compact
            def __call__(self):
                return ours.linen_rngs_dict(self, add_default=True)

        streams = nnx.Rngs(**Keys().apply({}, rngs=rngs)).fork()
        keys = {name: stream() for name, stream in streams.items()}
        keys["params"] = keys.pop("default")
        return Innermost().apply(inner, X, rngs=keys, mutable=mutable)

    out, updates = model.apply(variables, X, rngs=DROP, mutable=["batch_stats"])
    native_out, native_updates = native(["batch_stats"], DROP)
    assert_same(out, native_out * 2.0)
    assert_same(updates["batch_stats"]["linen"], native_updates["batch_stats"])
