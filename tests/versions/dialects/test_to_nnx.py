"""ToNNX and lazy_init: the same variables, RNG states and outputs as the installed Flax gives."""

import flax
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from record import assert_alike, linen_module_of, on_both, ours, theirs, variables_of

import nnx_wrappers
from layers import CASES, Case, Sows, X, float_leaves, made
from support.two_methods import Methods

every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def call(model, case: Case):
    return model(*case.args, mutable=case.mutable)


@every_case
def test_lazy_init_makes_the_same(case):
    assert_alike(lambda bridge: made(bridge, case))


@every_case
def test_calls_do_the_same_and_leave_the_same_state(case):
    def run(bridge):
        model = made(bridge, case)
        return call(model, case), call(model, case), model

    assert_alike(run)


@every_case
def test_calls_with_streams_of_their_own(case):
    def run(bridge):
        model, rngs = made(bridge, case), case.rngs(7)
        out = model(*case.args, rngs=rngs, mutable=case.mutable)
        return out, model, [stream.count.value for stream in (rngs["params"], rngs["dropout"])]

    assert_alike(run)


@every_case
def test_split_and_merge_under_jit(case):
    def run(bridge):
        graphdef, state = nnx.split(made(bridge, case))

        @jax.jit
        def step(state):
            model = nnx.merge(graphdef, state)
            out = call(model, case)
            return out, nnx.state(model)

        out, state = step(state)
        return out, step(state)[0], nnx.merge(graphdef, state)

    assert_alike(run)


@every_case
def test_nnx_jit(case):
    def run(bridge):
        model = made(bridge, case)
        step = nnx.jit(lambda model: call(model, case))
        return step(model), step(model), model

    assert_alike(run)


@every_case
def test_gradients(case):
    def run(bridge):
        model = made(bridge, case)

        def loss(model):
            return sum(jnp.sum(leaf**2) for leaf in float_leaves(call(model, case)))

        value, grads = nnx.value_and_grad(loss)(model)
        return value, grads, model

    assert_alike(run)


@every_case
def test_an_nnx_model_around_a_wrapped_module(case):
    class Model(nnx.Module):
        def __init__(self, bridge, rngs):
            self.scale = nnx.Param(jnp.float32(2))
            self.inner = bridge.ToNNX(case.build(), rngs=rngs)

        def __call__(self, *args):
            out = self.inner(*args, mutable=case.mutable)
            return jax.tree.map(lambda leaf: leaf * self.scale.value, out)

    class InitModel(Model):
        def __call__(self, *args):
            return self.inner(*args)

    def run(bridge):
        rngs = case.rngs()
        model = InitModel(bridge, rngs)
        bridge.lazy_init(model, *case.args)
        model.__class__ = Model
        out = model(*case.args)
        return out, model, [rngs["params"].count.value, rngs["dropout"].count.value]

    assert_alike(run)


def test_two_modules_that_share_their_streams():
    class Pair(nnx.Module):
        def __init__(self, bridge, rngs):
            self.left = bridge.ToNNX(CASES["block"].build(), rngs=rngs)
            self.right = bridge.ToNNX(CASES["block"].build(), rngs=rngs)

        def __call__(self, x, **kwargs):
            x, _ = self.left(x, **kwargs)
            return self.right(x, **kwargs)

    def run(bridge):
        model = Pair(bridge, nnx.Rngs(params=0, dropout=1))
        bridge.lazy_init(model, X[0])
        out = model(X[0], mutable=["batch_stats"])
        graphdef, state = nnx.split(model)
        return out, nnx.merge(graphdef, state)

    assert_alike(run)


def test_methods_by_name_by_function_and_as_attributes():
    def run(bridge):
        model = bridge.ToNNX(Methods(), rngs=nnx.Rngs(params=0)).lazy_init(X)
        return model(X, method="encode"), model(X, method=Methods.encode), model

    assert_alike(run)
    model = ours.ToNNX(Methods(), rngs=nnx.Rngs(params=0)).lazy_init(X)
    assert (model.encode(X) == model(X, method="encode")).all()


def test_lazy_init_of_a_method():
    def run(bridge):
        model = bridge.ToNNX(Methods(), rngs=nnx.Rngs(params=0))
        bridge.lazy_init(model, X, method="encode")
        return model

    assert_alike(run)


def test_the_stream_default_serves_params():
    assert_alike(lambda bridge: bridge.ToNNX(nn.Dense(3), rngs=nnx.Rngs(3)).lazy_init(X))


def test_scan_over_the_steps_of_a_wrapped_module():
    case = CASES["batch norm"]

    def run(bridge):
        graphdef, state = nnx.split(made(bridge, case))

        def step(state, x):
            model = nnx.merge(graphdef, state)
            out = model(x, mutable=case.mutable)
            return nnx.state(model), out

        state, outs = jax.lax.scan(step, state, jnp.stack([X, X + 1]))
        return outs, nnx.merge(graphdef, state)

    assert_alike(run)


def test_eval_shape_makes_the_same_shapes():
    def run(bridge):
        model = nnx.eval_shape(lambda: made(bridge, CASES["dense"]))
        return [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(nnx.state(model))]

    assert_alike(run)


def test_states_can_be_put_into_the_other_bridges_module():
    mine, reference = (
        made(bridge, CASES["block"], seed) for bridge, seed in ((ours, 0), (theirs, 5))
    )
    nnx.update(mine, nnx.state(reference))
    assert variables_of(mine) == variables_of(reference)


def test_sown_values_survive_a_second_call():
    case = Case(Sows, (X,), ["intermediates"])
    model = made(ours, case)
    out = call(model, case)
    assert (model.hidden.value[0] == out).all()
    model.Dense_0["bias"].value += 1
    assert (call(model, case) == out + 1).all()
    assert (model.hidden.value[-1] == out + 1).all()


def test_a_failed_call_leaves_variables_and_counts():
    model = made(ours, CASES["block"])
    before = variables_of(model)
    with pytest.raises(Exception, match=r"contracting|shape|dot_general"):
        model(X[0, :, :2], mutable=["batch_stats"])
    assert variables_of(model) == before


def test_a_call_before_lazy_init_says_what_to_do():
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    with pytest.raises(nnx_wrappers.NotInitializedError, match="lazy_init"):
        model(X)


def test_the_wrapper_tells_its_linen_module():
    module = nn.Dense(3)
    assert linen_module_of(ours.ToNNX(module)) is module
    assert ours.ToNNX(module).to_nnx__module is module


def test_a_trace_that_closes_over_the_module_leaves_nothing_in_it():
    model = made(ours, CASES["batch norm"])
    before = variables_of(model)
    jax.jit(lambda x: model(x, mutable=False, method=_average))(X)
    assert variables_of(model) == before
    with pytest.raises(flax.errors.TraceContextError, match=r"mean|var"):
        jax.jit(lambda x: model(x, mutable=["batch_stats"]))(X)
    assert variables_of(model) == before


def test_a_key_that_may_not_be_drawn_is_an_error():
    model = made(ours, CASES["dropout"])
    before = variables_of(model)
    errors = (flax.errors.TraceContextError, flax.errors.InvalidRngError)
    with pytest.raises(errors, match="release_rngs"):
        jax.jit(lambda x: model(x))(X)
    assert variables_of(model) == before


def test_the_stream_default_serves_a_call():
    dropout = nn.Dropout(0.5, deterministic=False)
    one, other = (ours.ToNNX(dropout, rngs=rngs)(X) for rngs in (nnx.Rngs(3), nnx.Rngs(params=3)))
    assert (one == other).all()


def _average(module, x):
    return module.variables["batch_stats"]["mean"] + x.mean()


def test_values_are_read_through_the_get_hooks():
    def run(bridge):
        model = made(bridge, CASES["dense"])
        hooks = {"on_get_value": lambda _, value: value * 2}
        if not hasattr(nnx.Variable, "_var_metadata"):
            hooks = {"get_value_hooks": (hooks["on_get_value"],)}
        model.bias = nnx.Param(jnp.ones(5), **hooks)
        return model(X)

    mine, _ = on_both(run)
    expected = made(ours, CASES["dense"])
    expected.bias = nnx.Param(jnp.full(5, 2.0))
    assert mine[0][0][1] == on_both(lambda _: expected(X))[0][0][0][1]
