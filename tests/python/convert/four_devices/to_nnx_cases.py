"""Linen modules in NNX, and conversions."""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, state_of, theirs

from .meshes import (
    AUTO,
    RULES,
    X,
    allows_with_mesh,
    assert_same_placed,
    both,
    each,
    of_eager_sharding,
    scanned,
    shardings,
    specs_of,
)

pytestmark = allows_with_mesh


class Partitioned(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.initializers.lecun_normal()
        x = nn.Dense(8, kernel_init=nn.with_partitioning(init, ("data", "model")))(x)
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dense(4, kernel_init=nn.with_partitioning(init, (None, "model")), name="out")(x)


class LogicallyPartitioned(nn.Module):
    rules: tuple | None = None

    @nn.compact
    def __call__(self, x):
        def init(names):
            lecun = nn.initializers.lecun_normal()
            return nn.with_logical_partitioning(lecun, names, rules=self.rules)

        x = nn.Dense(8, kernel_init=init(("embed", "mlp")))(x)
        x = nn.with_logical_constraint(x, ("embed", "mlp"))
        x = nn.BatchNorm(use_running_average=False)(x)
        return nn.Dense(4, kernel_init=init(("mlp", "embed")), name="out")(x)


class Scanned(nn.Module):
    @nn.compact
    def __call__(self, x):
        def body(module, carry):
            init = nn.with_partitioning(nn.initializers.lecun_normal(), ("data", None))
            return nn.Dense(4, kernel_init=init, name="dense")(carry), None

        return scanned(body, {"params": 0}, "model")(self, x)[0]


LINEN = {
    "with_partitioning": Partitioned(),
    "with_logical_partitioning": LogicallyPartitioned(),
    "own rules": LogicallyPartitioned(rules=RULES),
    "scan": Scanned(),
}
SHARDED = {"scan": 1}
of_modules = pytest.mark.parametrize("name", LINEN)


def to_nnx(bridge, name):
    return bridge.lazy_init(bridge.ToNNX(LINEN[name], rngs=nnx.Rngs(0)), X)


def mutable(name):
    return ["batch_stats"] if name != "scan" else False


# Linen's boxes assert on a mesh with explicit axes.
@pytest.mark.parametrize(("mesh", "name"), each(*LINEN)[:-1], indirect=["mesh"])
def test_a_linen_module_in_nnx_is_placed_alike_eagerly(mesh, name):
    with nn.logical_axis_rules(RULES):
        mine, reference = both(lambda b: state_of(to_nnx(b, name)))
    seen = nn.meta.global_mesh_defined()
    assert_same_placed(mine, reference, split=SHARDED.get(name, 2) if seen else 0)


@of_modules
def test_specs_and_named_shardings_of_a_linen_module_in_nnx_are_alike(auto_mesh, name):
    def run(bridge):
        with nn.logical_axis_rules(RULES):
            state = nnx.state(to_nnx(bridge, name), nnx.Param)
            specs, named = nnx.get_partition_spec(state), nnx.get_named_sharding(state, auto_mesh)
        return nnx.to_pure_dict(specs), nnx.to_pure_dict(named), state

    mine, reference = both(run)
    assert mine[:2] == reference[:2]
    flat = jax.tree_util.tree_leaves_with_path(mine[2])
    named = jax.tree.leaves(mine[1])
    for (path, array), sharding in zip(flat, named, strict=True):
        if any(sharding.spec):
            assert array.sharding == sharding, path


@of_modules
def test_a_linen_module_in_nnx_is_initialized_sharded_under_jit(auto_mesh, name):
    def run(bridge):
        @nnx.jit
        def make():
            model = to_nnx(bridge, name)
            params = nnx.state(model, nnx.Param)
            named = nnx.get_named_sharding(params, auto_mesh)
            nnx.update(model, jax.lax.with_sharding_constraint(params, named))
            return model

        with nn.logical_axis_rules(RULES):
            return state_of(make())

    mine, reference = both(run)
    assert_same_placed(mine, reference, split=SHARDED.get(name, 2))


@of_modules
def test_an_abstract_model_has_the_same_shardings(name):
    def run(bridge):
        with nn.logical_axis_rules(RULES):
            _, state = nnx.get_abstract_model(lambda: to_nnx(bridge, name), AUTO)
        params = nnx.to_pure_dict(nnx.filter_state(state, nnx.Param))
        return jax.tree.map(lambda a: (a.shape, a.dtype, a.sharding), params)

    mine, reference = both(run)
    assert mine == reference
    specs = jax.tree.leaves(mine, is_leaf=lambda x: isinstance(x, tuple))
    assert sum(any(sharding.spec) for _, _, sharding in specs) == SHARDED.get(name, 2)


@of_modules
def test_training_a_linen_module_in_nnx_keeps_the_placement(auto_mesh, name):
    def run(bridge):
        with nn.logical_axis_rules(RULES):
            model = to_nnx(bridge, name)
            before = specs_of(nnx.state(model, nnx.Param))

            @nnx.jit
            def step(model):
                def loss(model):
                    return jnp.mean(model(X, mutable=mutable(name)) ** 2)

                grads = nnx.grad(loss)(model)
                params = nnx.state(model, nnx.Param)
                named = nnx.get_named_sharding(params, auto_mesh)
                params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
                nnx.update(model, jax.lax.with_sharding_constraint(params, named))
                return nnx.to_pure_dict(grads)

            grads = step(model)
        assert specs_of(nnx.state(model, nnx.Param)) == before
        return grads, state_of(model)

    mine, reference = both(run)
    assert_same_placed(mine, reference, split=2 * SHARDED.get(name, 2))


# --- conversions under a mesh and without one ------------------------------------------


def boxed():
    return {
        "params": {
            "a": nn.Partitioned(jnp.ones((4, 8)), ("data", "model")),
            "b": {"c": nn.LogicallyPartitioned(jnp.ones((8, 4)), ("mlp", "embed"), rules=RULES)},
            "own": nn.Partitioned(jnp.ones((2, 2)), ("model", None), mesh=AUTO),
            "raw": jnp.ones(3),
        },
        "batch_stats": {
            "d": theirs.NNXMeta(nnx.BatchStat, jnp.ones((4, 4)), {"out_sharding": ("model", None)})
        },
    }


def test_conversions_under_a_mesh_move_values_alike(auto_mesh):
    def run(bridge):
        module = bridge if bridge is ours else theirs.variables
        attrs = module.linen_vars_to_nnx_attrs(boxed())
        return attrs, module.nnx_attrs_to_linen_vars(attrs)

    mine, reference = both(run)
    assert_same_placed(mine[0], reference[0], split=4)
    assert_same_placed(mine[1], reference[1], split=4)


def without_mesh():
    variables = boxed()
    del variables["params"]["own"]
    return variables


@of_eager_sharding
def test_conversions_without_a_mesh_leave_values_where_they_are(flag):
    variables, original = without_mesh(), without_mesh()
    with nnx.use_eager_sharding(flag):
        if flag:
            with pytest.raises(ValueError, match="mesh"):
                theirs.variables.linen_vars_to_nnx_attrs(without_mesh())
        attrs = ours.linen_vars_to_nnx_attrs(variables)
        again = ours.nnx_attrs_to_linen_vars(attrs)
        specs = nn.get_partition_spec(again)
    with nnx.use_eager_sharding(False):
        reference = theirs.variables.linen_vars_to_nnx_attrs(without_mesh())
        assert specs == nn.get_partition_spec(original)
    for mine, other in zip(jax.tree.leaves(attrs), jax.tree.leaves(reference), strict=True):
        assert_same(mine, other)
    assert_same(again["params"], original["params"])
    box = again["batch_stats"]["d"]
    assert isinstance(box, theirs.NNXMeta)
    assert box.metadata["out_sharding"] == ("model", None)
    assert_same(nn.meta.unbox(again), nn.meta.unbox(original))
    assert shardings(again) == shardings(original)


@pytest.mark.parametrize(("flag", "name"), [*((True, n) for n in LINEN), (False, "own rules")])
def test_a_linen_module_in_nnx_needs_no_mesh(flag, name):
    with nnx.use_eager_sharding(flag):
        mine = to_nnx(ours, name)
        out = mine(X, mutable=mutable(name))
        if flag:
            with pytest.raises(ValueError, match="mesh"):
                to_nnx(theirs, name)
    with nnx.use_eager_sharding(False):
        reference = to_nnx(theirs, name)
        assert_same(out, reference(X, mutable=mutable(name)))
        specs = [nnx.get_partition_spec(nnx.state(m, nnx.Param)) for m in (mine, reference)]
    assert nnx.to_pure_dict(specs[0]) == nnx.to_pure_dict(specs[1])
    values = [nnx.to_pure_dict(nnx.state(m)) for m in (mine, reference)]
    assert_same_placed(values[0], values[1], split=0)
    assert specs_of(values) == []
