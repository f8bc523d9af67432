"""Where nnx_wrappers is right and Flax's bridge (or MaxText's copy) is not.

Each test pins one row of docs/differences.md and shows what the oracle does.
"""

import warnings

import flax
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from flax.nnx import variablelib

from support.oracle import assert_same, assert_same_module, describe, ours, state_of, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


# --- rows where the two upstreams disagree -----------------------------------------


def test_required_metadata_does_not_make_a_variable_special():
    variable = nnx.Param(jnp.ones(3))
    assert set(variable.get_metadata()) >= set(variablelib.Variable.required_metadata)
    assert ours.is_vanilla_variable(variable)
    variables = ours.ToLinen(nnx.Linear, args=(3, 3)).init(RNGS, X)
    assert variables["params"]["kernel"].shape == (3, 3)


def test_outside_linen_every_collection_but_params_is_mutable_by_default():
    norm = nn.BatchNorm(use_running_average=False)
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        theirs.ToNNX(norm, rngs=nnx.Rngs(0)).lazy_init(X)(X)
    mine = ours.ToNNX(norm, rngs=nnx.Rngs(0)).lazy_init(X)
    reference = theirs.ToNNX(norm, rngs=nnx.Rngs(0)).lazy_init(X)
    assert_same(mine(X), reference(X, mutable=["batch_stats"]))
    assert_same_module(mine, reference)


def test_inside_linen_the_scope_decides_what_is_mutable():
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, model, x):
            return model(x)

    model = ours.ToNNX(nn.BatchNorm(use_running_average=False), rngs=nnx.Rngs(0)).lazy_init(X)
    before = describe(state_of(model))
    with pytest.raises(flax.errors.ModifyScopeVariableError):
        Outer().apply({}, model, X)
    assert describe(state_of(model)) == before


def test_plain_attributes_are_left_out_of_linen_variables():
    attrs = {"w": nnx.Param(jnp.ones(2)), "note": "plain", "sub": {"n": 3}}
    with pytest.raises(ValueError, match="Cannot infer collection"):
        theirs.variables.nnx_attrs_to_linen_vars(attrs)
    assert_same(ours.nnx_attrs_to_linen_vars(attrs), {"params": {"w": jnp.ones(2)}})


def test_private_attributes_of_every_flax_version_are_no_state():
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).lazy_init(X)
    vars(model)["_object__extra"] = nnx.Param(jnp.ones(1))
    assert model(X).shape == (2, 3)


def test_unknown_paths_warn_and_missing_modules_are_built():
    seen = []

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(3, 3, rngs=rngs)

        def __call__(self, x):
            seen.append(type(self.new.deeper) if hasattr(self, "new") else None)
            return self.layer(x)

    model = ours.ToLinen(Model)
    variables = model.init(RNGS, X)
    expected = model.apply(variables, X)
    variables["params"]["new"] = {"deeper": {"w": jnp.ones(2)}}
    with pytest.warns(UserWarning, match=r"unknown module paths[^/]*\n  - new/deeper/w"):
        assert_same(model.apply(variables, X), expected)
    assert seen[-1] is nnx.Module


def test_raw_arrays_are_loaded_in_a_trace_as_outside_of_one():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(3, 3, rngs=rngs)
            self.layer.scale = jax.random.normal(rngs.params(), (3,))

        def __call__(self, x):
            return self.layer(x) * self.layer.scale

    results = []
    for bridge in (theirs, ours):
        model = bridge.ToLinen(Model)
        variables = jax.tree.map(lambda leaf: leaf * 10, model.init(RNGS, X))
        loss = lambda v, m=model: m.apply(v, X).sum()  # noqa: E731
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if bridge is theirs else "error")
            traced = jax.jit(model.apply)(variables, X), jax.jit(jax.grad(loss))(variables)
        results.append((model.apply(variables, X), jax.grad(loss)(variables), *traced))
    assert_same(results[1], results[0])


def test_an_unknown_path_writes_into_nothing_that_is_not_the_module_s():
    def act(x):
        return x

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer, self.act = nnx.Linear(3, 3, rngs=rngs), act

        def __call__(self, x):
            return self.act(self.layer(x))

    variables = ours.ToLinen(Model).init(RNGS, X)
    before = dict(vars(Model))
    for name in ("act", "__class__"):
        variables["params"][name] = {"dense": {"kernel": X}}
        with pytest.raises(ValueError, match=rf"{name}/dense/kernel: expected a module"):
            ours.ToLinen(Model).apply(variables, X)
        del variables["params"][name]
    assert vars(act) == {}
    assert dict(vars(Model)) == before


def test_a_subclass_may_update_the_variables_itself():
    logs = []
    for bridge in (theirs, ours):
        log = []

        class Mine(bridge.ToLinen):
            def _update_variables(self, module, log=log):
                log.append(type(module).__name__)
                super()._update_variables(module)

        model = Mine(nnx.Linear, (3, 3))
        variables = model.init(RNGS, X)
        log.append(model.apply(variables, X, mutable=True))
        logs.append(log)
    assert_same(logs[1], logs[0])


def test_interceptors_do_not_see_the_wrapper_at_work():
    seen = {}
    for bridge in (theirs, ours):
        names = seen.setdefault(bridge, [])

        def note(next_fun, args, kwargs, context, names=names):
            names.append(context.method_name)
            return next_fun(*args, **kwargs)

        model = bridge.ToLinen(nnx.Linear, (3, 3))
        with nn.intercept_methods(note):
            model.apply(model.init(RNGS, X), X)
    assert seen[theirs] == ["__call__", "_update_variables"] * 2
    assert seen[ours] == ["__call__"] * 2


def test_to_linen_class_makes_a_class_that_works_directly():
    made = ours.to_linen_class(nnx.Linear, in_features=3)
    assert made.__name__ == "LinearToLinen"
    assert made.module_class is nnx.Linear
    reference = theirs.ToLinen(nnx.Linear, args=(3, 4))
    assert_same(made(out_features=4).init(RNGS, X), reference.init(RNGS, X))


def test_plain_containers_with_data_set_on_a_to_nnx_are_data():
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).lazy_init(X)
    model.extra = [jnp.ones(2), {"w": jnp.zeros(2)}]
    model.label = "plain"
    assert {path.split("/")[0] for path in state_of(model)} >= {"extra"}
    assert model(X).shape == (2, 3)


def test_import_changes_no_flag(tmp_path):
    import subprocess
    import sys

    code = (
        "import flax\n"
        "before = dict(flax.config._values) if hasattr(flax.config, '_values') else {}\n"
        "flag = flax.config.flax_always_shard_variable\n"
        "import nnx_wrappers, sys\n"
        "assert flax.config.flax_always_shard_variable is flag\n"
        "assert (dict(flax.config._values) if hasattr(flax.config, '_values') else {}) == before\n"
        "assert 'qwix' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_annotated_values_convert_without_a_mesh():
    module = nn.Dense(
        3, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
    )
    reference = theirs.ToNNX(module, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="mesh"):
        theirs.lazy_init(reference, X)
    model = ours.ToNNX(module, rngs=nnx.Rngs(0)).lazy_init(X)
    assert model.kernel.get_metadata("out_sharding") == ("in", "out")
    box = ours.to_linen_var(model.kernel)
    assert isinstance(box, nn.Partitioned)
    assert box.names == ("in", "out")


def test_state_of_a_to_nnx_inside_a_to_linen_is_kept_from_init_on():
    class Inner(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(3)(x))

    def outer(bridge):
        class Outer(nnx.Module):
            def __init__(self, rngs):
                self.inner = bridge.ToNNX(Inner(), rngs=rngs)

            def __call__(self, x):
                return self.inner(x)

        return bridge.ToLinen(Outer)

    y, lost = outer(theirs).init_with_output(RNGS, X)
    assert lost == {}
    mine, variables = outer(ours).init_with_output(RNGS, X)
    assert_same(mine, y)  # the numbers are the same, the variables are there
    native = {c: v["inner"] for c, v in variables.items()}
    expected, updates = Inner().apply(native, X, mutable=["batch_stats"])
    out, mine_updates = outer(ours).apply(variables, X, mutable=["batch_stats"])
    assert_same(out, expected)
    assert_same(mine_updates["batch_stats"]["inner"], updates["batch_stats"])


def test_a_missing_stream_falls_back_to_params_at_init():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(3, 3, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x):
            return self.drop(self.layer(x))

    with pytest.raises(KeyError, match="dropout"):
        theirs.ToLinen(Model).init(jax.random.key(0), X)
    variables = ours.ToLinen(Model).init(jax.random.key(0), X)
    both = theirs.ToLinen(Model).init(
        {"params": jax.random.key(0), "dropout": jax.random.key(1)}, X
    )
    assert_same(variables, both)  # parameters do not depend on how dropout got its keys


def test_a_constructor_sees_the_stream_that_falls_back():
    seen = []

    class Model(nnx.Module):
        def __init__(self, rngs):
            seen.append((hasattr(rngs, "noise"), "noise" in rngs))

        def __call__(self, x):
            return x

    for bridge in (theirs, ours):
        bridge.ToLinen(Model).init(jax.random.key(0), X)
        bridge.ToLinen(Model).apply({}, X, rngs=jax.random.key(0))
    assert seen == [(False, False), (True, False), (True, False), (True, False)]


def test_a_forked_stream_falls_back_to_params_too():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.drop = nnx.Dropout(0.5, rngs=rngs.fork())

        def __call__(self, x):
            return self.drop(x)

    assert ours.ToLinen(Model).init(jax.random.key(0), X) == {}


# --- rows where Flax is not right ---------------------------------------------------


def test_round_trip_to_linen_of_to_nnx_keeps_layout_and_values():
    module = nn.Dense(
        4, kernel_init=nn.with_partitioning(nn.initializers.lecun_normal(), ("in", "out"))
    )
    assert theirs.ToLinen(theirs.ToNNX, args=(nn.Dense(4),)).init(RNGS, X) == {}
    model = ours.ToLinen(ours.ToNNX, args=(module,))
    y, variables = model.init_with_output(RNGS, X)
    native = module.init(RNGS["params"], X)
    assert jax.tree.structure(variables) == jax.tree.structure(native)
    assert_same(y, module.apply(variables, X))
    assert_same(model.apply(native, X), module.apply(native, X))


def test_round_trip_to_nnx_of_to_linen_keeps_layout_metadata_and_values(without_eager_sharding):
    annotated = nnx.with_partitioning(nnx.initializers.lecun_normal(), ("in", "out"))

    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layer = nnx.Linear(3, 4, kernel_init=annotated, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return self.norm(self.layer(x))

    inner = ours.ToLinen(Model)
    variables = inner.init(RNGS, X)
    model = ours.ToNNX(inner, rngs=nnx.Rngs(0)).lazy_init(X)
    for attribute, value in ours.linen_vars_to_nnx_attrs(variables).items():
        setattr(model, attribute, nnx.data(value))
    attributes = {"layer": model.layer, "norm": model.norm}
    assert_same(ours.nnx_attrs_to_linen_vars(attributes), variables)
    out, updates = inner.apply(variables, X, mutable=["batch_stats"])
    assert_same(model(X), out)
    assert_same(model.norm["mean"].get_value(), updates["batch_stats"]["norm"]["mean"])


def test_get_hooks_are_not_baked_into_the_value():
    class Doubled(nnx.Module):
        def __init__(self, rngs):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.w = nnx.Param(jnp.ones(3), on_get_value=lambda _, value: value * 2)

        def __call__(self, x):
            return x * self.w[...]

    y, variables = theirs.ToLinen(Doubled).init_with_output(RNGS, X)
    assert_same(variables["params"]["w"].value, jnp.full(3, 2.0))
    assert_same(theirs.ToLinen(Doubled).apply(variables, X), y * 2)  # applied twice

    y, variables = ours.ToLinen(Doubled).init_with_output(RNGS, X)
    assert_same(variables["params"]["w"].value, jnp.ones(3))
    assert_same(ours.ToLinen(Doubled).apply(variables, X), y)


def test_create_hooks_do_not_run_again_in_a_conversion():
    box = ours.NNXMeta(nnx.Param, jnp.ones(3), {"on_create_value": (lambda _, v: v + 1,)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(nnx.bridge.NNXMeta.to_nnx_variable(box).get_value(), jnp.full(3, 2.0))
    assert_same(box.to_nnx_variable().get_value(), jnp.ones(3))


def test_a_box_that_is_converted_stays_as_it_was(without_eager_sharding):
    def box():
        return nn.LogicallyPartitioned(jnp.ones((2, 3)), ("in", "out"), rules=(("in", "x"),))

    emptied = box()
    theirs.variables.to_nnx_var("params", emptied)
    assert not hasattr(emptied, "names") or "names" not in vars(emptied)
    kept = box()
    variable = ours.to_nnx_var("params", kept)
    assert kept.names == ("in", "out")
    assert kept.rules == (("in", "x"),)
    again = ours.to_linen_var(variable)
    assert isinstance(again, nn.LogicallyPartitioned)
    assert (again.names, again.rules) == (kept.names, kept.rules)


def test_a_path_that_is_a_prefix_of_another_is_refused():
    variables = {"params": {"a": jnp.ones(1)}, "batch_stats": {"a": {"b": jnp.ones(1)}}}
    with pytest.raises(ValueError, match=r"params/a.*batch_stats/a/b"):
        ours.linen_vars_to_nnx_attrs(variables)


def test_a_constructor_never_writes_into_the_users_objects():
    layer = nnx.Linear(3, 3, rngs=nnx.Rngs(0))

    class Model(nnx.Module):
        def __init__(self, layer):
            self.layer = layer

        def __call__(self, x):
            return self.layer(x)

    model = ours.ToLinen(Model, args=(layer,), skip_rng=True)
    before = describe(state_of(layer))
    variables = model.init(RNGS, X)
    doubled = jax.tree.map(lambda a: a * 2, variables)
    native = theirs.ToLinen(nnx.Linear, args=(3, 3))
    expected = native.apply({"params": doubled["params"]["layer"]}, X)
    assert_same(model.apply(doubled, X), expected)
    jax.jit(model.apply)(doubled, X)
    assert describe(state_of(layer)) == before
    reference = theirs.ToLinen(Model, args=(layer,), skip_rng=True)
    reference.apply(doubled, X)
    assert describe(state_of(layer)) != before  # Flax's bridge wrote into it


def test_extra_collections_with_the_same_paths_are_not_loaded_instead():
    model = ours.ToLinen(nnx.Linear, args=(3, 3))
    variables = model.init(RNGS, X)
    averages = jax.tree.map(jnp.zeros_like, variables["params"])
    given = {**variables, "z_averages": averages}
    assert_same(model.apply(given, X), model.apply(variables, X))
    reference = theirs.ToLinen(nnx.Linear, args=(3, 3))
    assert_same(reference.apply(given, X), jnp.zeros((2, 3)))  # the last collection won
