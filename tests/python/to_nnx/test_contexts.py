"""Where calls stand: inside Linen, inside flax.nnx.bridge modules, nowhere."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, assert_same_module, describe, ours, state_of, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


class Norm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))


def test_the_innermost_linen_module_is_found():
    seen = []

    class Inner(nn.Module):
        def __call__(self):
            seen.append(ours.current_linen_module() is self)
            seen.append(ours.is_linen_initializing())

    class Outer(nn.Module):
        @nn.compact
        def __call__(self):
            Inner()()
            seen.append(ours.current_linen_module() is self)

    assert ours.current_linen_module() is None
    assert not ours.is_linen_initializing()
    Outer().init({})
    Outer().apply({})
    assert seen == [True, True, True, True, False, True]
    assert ours.current_linen_module() is None


def test_other_threads_do_not_see_the_context():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:

        class Model(nn.Module):
            def __call__(self):
                return pool.submit(ours.current_linen_module).result()

        assert Model().apply({}) is None


@pytest.mark.parametrize("add_default", [False, True])
def test_keys_for_every_active_stream_are_drawn_alike(add_default):
    class Model(nn.Module):
        bridge: object

        @nn.compact
        def __call__(self):
            first = self.bridge.linen_rngs_dict(self, add_default=add_default)
            return first, self.bridge.linen_rngs_dict(self, add_default), self.make_rng("params")

    mine = Model(ours).apply({}, rngs=RNGS)
    reference = Model(theirs.wrappers).apply({}, rngs=RNGS)
    assert list(mine[0]) == list(reference[0])
    assert_same(mine, reference)


def in_linen(bridge, model):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return model(x) * self.variable("batch_stats", "s", lambda: jnp.ones(())).value

    return Outer()


@pytest.mark.parametrize("mutable", [["batch_stats"], True])
def test_the_scope_of_linen_gives_the_default_of_mutable(mutable):
    results = []
    for bridge in (ours, theirs):
        model = bridge.lazy_init(bridge.ToNNX(Norm(), rngs=nnx.Rngs(0)), X)
        out = in_linen(bridge, model).apply({"batch_stats": {"s": 1.0}}, X, mutable=mutable)
        results.append((out, state_of(model)))
    assert_same(results[0], results[1])


def bridge_module(wrappers):
    class Model(theirs.Module):
        @theirs.compact
        def __call__(self, x):
            inner = wrappers.ToNNX(Norm(), rngs=self.scope.rngs)
            inner._pytree__state._initializing = self.is_initializing()
            self.inner = inner
            return self.inner(x)

    return Model()


def test_inside_a_bridge_module_both_behave_alike():
    mine = bridge_module(ours).init_with_output(0, X)
    reference = bridge_module(theirs).init_with_output(0, X)
    assert_same(mine, reference)


class Methods(nn.Module):
    """Methods by every way to name them."""

    def setup(self):
        self.encoder = nn.Dense(4)
        self.decoder = nn.Dense(3)

    def __call__(self, x):
        return self.decode(self.encode(x))

    def encode(self, x):
        return self.encoder(x)

    def decode(self, z, scale=1.0):
        return self.decoder(z) * scale


CALLS = {
    "attribute": lambda m, z: m.decode(z, scale=2.0),
    "name": lambda m, z: m(z, scale=2.0, method="decode"),
    "function": lambda m, z: m(z, scale=2.0, method=Methods.decode),
}


@pytest.mark.parametrize("way", sorted(CALLS))
def test_methods_of_the_linen_class_run_alike(way):
    outputs = []
    for bridge in (ours, theirs):
        model = bridge.lazy_init(bridge.ToNNX(Methods(), rngs=nnx.Rngs(0)), X)
        outputs.append(CALLS[way](model, model.encode(X)))
    assert_same(outputs[0], outputs[1])


def test_lazy_init_of_a_method_makes_only_what_it_reaches():
    models = []
    for bridge in (ours, theirs):
        model = bridge.ToNNX(Methods(), rngs=nnx.Rngs(0))
        bridge.lazy_init(model.encode, X)
        models.append(model)
    assert_same_module(models[0], models[1])
    assert {path.split("/")[0] for path in state_of(models[0])} == {"encoder", "to_nnx__rngs"}


def test_lazy_init_returns_what_it_was_given():
    model = ours.ToNNX(Methods(), rngs=nnx.Rngs(0))
    method = model.encode
    assert ours.lazy_init(method, X) is method
    assert ours.lazy_init(model, X) is model
    assert model.lazy_init(X) is model


class Encoder(nnx.Module):
    def __init__(self, features, rngs):
        self.layer = nnx.Linear(3, features, rngs=rngs)

    def __call__(self, x):
        return self.encode(x)

    def encode(self, x, scale=1.0):
        return self.layer(x) * scale


LINEN_CALLS = {
    "nnx_method by name": lambda m, v: m.apply(v, X, scale=2.0, nnx_method="encode"),
    "nnx_method": lambda m, v: m.apply(v, X, scale=2.0, nnx_method=Encoder.encode),
    "method": lambda m, v: m.apply(v, X, method=lambda m, x: m.encode(x, scale=2.0)),
    "bound": lambda m, v: m.bind(v).encode(X, scale=2.0),
}


@pytest.mark.parametrize("way", sorted(LINEN_CALLS))
def test_methods_of_the_nnx_class_run_alike(way):
    mine = ours.ToLinen(Encoder, kwargs={"features": 4})
    reference = theirs.ToLinen(Encoder, kwargs={"features": 4})
    variables = reference.init(RNGS, X)
    assert_same(LINEN_CALLS[way](mine, variables), LINEN_CALLS[way](reference, variables))


def test_entries_of_kwargs_are_attributes():
    model = ours.to_linen(Encoder, features=4)
    assert model.features == 4
    with pytest.raises(AttributeError, match="nothing"):
        _ = model.nothing


def test_attributes_of_a_setup_are_found_in_subclasses():
    class WithSetup(ours.ToLinen):
        def setup(self):
            self.extra = 5

        def read(self):
            return self.extra

    model = WithSetup(nnx.Linear, args=(3, 3))
    assert model.apply({}, method="read") == 5


def test_augmenting_changes_the_structure_before_variables_are_loaded():
    names = []

    def augment(module, name):
        names.append(name)
        module.extra = nnx.Param(jnp.full((4,), 7.0))
        return module

    class Adds(Encoder):
        def __call__(self, x):
            return super().__call__(x) + self.extra[...]

    model = ours.ToLinen(Adds, args=(4,), nnx_module_augment_fn=augment, name="augmented")
    variables = model.init(RNGS, X)
    assert variables["params"]["extra"].shape == (4,)
    doubled = jax.tree.map(lambda a: a * 2, variables)
    plain = theirs.ToLinen(Encoder, args=(4,))
    layer = {"params": {"layer": doubled["params"]["layer"]}}
    assert_same(model.apply(doubled, X), plain.apply(layer, X) + 14.0)
    assert set(names) == {"augmented"}


def test_metadata_fn_decides_what_linen_stores():
    def boxed(variable):
        return nn.Partitioned(variable.get_value(), (None,) * variable.ndim)

    model = ours.ToLinen(Encoder, args=(4,), metadata_fn=boxed)
    reference = theirs.ToLinen(Encoder, args=(4,), metadata_fn=boxed)
    variables = reference.init(RNGS, X)
    assert_same(model.init(RNGS, X), variables)
    assert_same(model.apply(variables, X), reference.apply(variables, X))
    raw = ours.ToLinen(Encoder, args=(4,), metadata_fn=None)
    assert_same(
        raw.init(RNGS, X), theirs.ToLinen(Encoder, args=(4,), metadata_fn=None).init(RNGS, X)
    )


def test_fields_of_to_linen_class_override_what_the_class_fixed():
    made = ours.to_linen_class(Encoder, base_skip_rng=False, features=4)
    by_field = made(kwargs={"features": 5})
    by_name = made(features=6, name="named")
    assert made().kwargs["features"] == 4
    assert by_field.kwargs["features"] == 5
    assert by_name.kwargs["features"] == 6
    assert by_name.name == "named"

    class Sub(made):
        def twice(self, x):
            return self(x) * 2

    variables = Sub().init(RNGS, X)
    plain = theirs.ToLinen(Encoder, args=(4,))
    assert_same(variables, plain.init(RNGS, X))
    assert_same(Sub().apply(variables, X, method="twice"), plain.apply(variables, X) * 2)


def test_to_linen_class_of_a_partial_is_named_after_the_class():
    import functools

    assert ours.to_linen_class(functools.partial(Encoder, 4)).__name__ == "EncoderToLinen"


def test_release_rngs_takes_the_streams_out_of_the_state():
    model = ours.ToNNX(Methods(), rngs=nnx.Rngs(0)).lazy_init(X)
    before = model(X)
    model.release_rngs()
    assert not any(path.startswith("to_nnx__rngs") for path in state_of(model))
    assert_same(model(X), before)


def test_deprecated_names_warn():
    model = ours.ToNNX(Methods(), rngs=nnx.Rngs(0))
    with pytest.warns(DeprecationWarning, match="to_nnx__rngs"):
        assert model.rngs is model.to_nnx__rngs
    with pytest.warns(DeprecationWarning, match="to_nnx__module"):
        assert model.module is model.to_nnx__module


LAYERS = [
    (["layers_0", "layers_1"], ["layers_0", "layers_1"]),
    (["layers"], ["layers"]),
    (["moe_layers_1", "moe_layers_0", "dense_layers_0"],
     ["dense_layers_0", "moe_layers_0", "moe_layers_1"]),
    (["layers_0", "layers_2"], ["layers_0"]),
    (["layers_outside_pipeline_0", "scanned_blocks", "layers"],
     ["scanned_blocks", "layers", "layers_outside_pipeline_0"]),
    (["moe_layers_outside_pipeline", "dense_layers"],
     ["dense_layers", "moe_layers_outside_pipeline"]),
    (["layers_only"], ["layers_only"]),
    (["other"], []),
]  # fmt: skip


@pytest.mark.parametrize(("present", "expected"), LAYERS)
def test_layers_come_in_execution_order(present, expected):
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    modules = {name: nnx.Module() for name in present}
    for name, module in modules.items():
        setattr(model, name, module)
    assert [id(m) for m in model.get_layers()] == [id(modules[name]) for name in expected]


def test_an_empty_remainder_and_a_pipeline_are_special_layers():
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    model.layers_remainder = nnx.Module()
    model.layers_remainder.num_of_layers = 0
    model.pipeline_module = nnx.Module()
    model.pipeline_module.layers = nnx.Module()
    assert [id(m) for m in model.get_layers()] == [id(model.pipeline_module.layers)]
    model.layers_remainder.num_of_layers = 2
    assert [id(m) for m in model.get_layers()] == [
        id(model.pipeline_module.layers),
        id(model.layers_remainder),
    ]


def test_rngs_given_to_a_call_replace_the_modules_own():
    class Noise(nn.Module):
        @nn.compact
        def __call__(self):
            return jax.random.normal(self.make_rng("noise"), (3,))

    results = []
    for bridge in (ours, theirs):
        model = bridge.ToNNX(Noise(), rngs=nnx.Rngs(noise=0))
        given = nnx.Rngs(noise=5)
        out = [model(), model(rngs=given), model(rngs=given), model(), model(rngs=RNGS["params"])]
        results.append((out, state_of(model), state_of(given)))
    assert_same(results[0], results[1])
    model = ours.ToNNX(Noise())
    assert_same(
        model(rngs={"noise": RNGS["params"]}), Noise().apply({}, rngs={"noise": RNGS["params"]})
    )


def test_a_key_given_to_the_constructor_is_the_params_stream():
    mine = ours.ToNNX(nn.Dense(3), rngs=RNGS["params"]).lazy_init(X)
    assert_same_module(mine, theirs.lazy_init(theirs.ToNNX(nn.Dense(3), rngs=RNGS["params"]), X))


def test_functional_modules_run_alike():
    results = []
    for bridge in (ours, theirs):
        functional = bridge.functional(nnx.Linear)(3, 4)
        state = functional.init(rngs=nnx.Rngs(0))
        out, (_, after) = functional.apply(state)(X)
        results.append((out, nnx.to_pure_dict(state), nnx.to_pure_dict(after)))
    assert_same(results[0], results[1])
    assert describe(results[0][1]) == describe(results[0][2])
