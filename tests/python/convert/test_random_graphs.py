"""Random modules through ToLinen and ToNNX: as Flax's bridge has them, with and without plans.

NNX_WRAPPERS_LONG=1 draws 10,000 examples of each.
"""

import itertools

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.bridge import variables as bridge_variables
from hypothesis import HealthCheck, given, settings

import nnx_wrappers
from support.effort import examples
from support.oracle import describe, ours, state_of, theirs
from support.random_graphs import Random, Spec, graphs, wider_graphs
from support.random_linen import COLLECTIONS, RandomLinen, linen_modules

X = jnp.ones(())
KEYS = {"params": jax.random.key(0)}

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
some = settings(max_examples=examples(40), suppress_health_check=SLOW)
fewer = settings(max_examples=examples(20), suppress_health_check=SLOW)

tried = itertools.count(1)


def forget_programs(every: int = 200) -> None:
    """JAX keeps each program that it compiled: 2 MB for each example, in the long form 20 GiB."""
    if next(tried) % every == 0:
        jax.clear_caches()


@some
@given(graphs)
def test_variables_and_results_are_those_of_flax(spec: Spec) -> None:
    seen = []
    for bridge in (theirs, ours):
        model = bridge.to_linen(Random, spec)
        made = model.init(KEYS, X)
        result, updates = model.apply(made, X, rngs=KEYS, mutable=["batch_stats"])
        again = model.apply({**made, **updates}, X, rngs=KEYS)
        seen.append([describe(tree) for tree in (made, result, updates, again)])
    assert seen[1] == seen[0]


@some
@given(wider_graphs)
def test_a_plan_changes_nothing(spec: Spec) -> None:
    model = ours.to_linen(Random, spec)
    made = model.init(KEYS, X)
    seen = []
    for enabled in (True, True, False):  # a plan that is built, one that is used, none
        before = nnx_wrappers.use_plans(enabled)
        try:
            outs = model.apply(made, X, rngs=KEYS, mutable=["batch_stats"])
            jitted = jax.jit(lambda v: model.apply(v, X, rngs=KEYS, mutable=True))(made)
        finally:
            nnx_wrappers.use_plans(before)
        seen.append([describe(outs), describe(jitted)])
    assert seen[0] == seen[1] == seen[2]
    forget_programs()


@some
@given(graphs)
def test_state_goes_to_linen_and_back(spec: Spec) -> None:
    module = Random(spec, rngs=nnx.Rngs(0))
    kept = nnx.state(module, nnx.All(nnx.Variable, nnx.Not(nnx.RngState)))
    state = nnx.to_pure_dict(kept, lambda variable: variable)
    variables = nnx_wrappers.nnx_attrs_to_linen_vars(state)
    back = nnx_wrappers.linen_vars_to_nnx_attrs(variables)
    assert describe(back) == describe(state)
    assert describe(nnx_wrappers.nnx_attrs_to_linen_vars(back)) == describe(variables)
    assert describe(variables) == describe(bridge_variables.nnx_attrs_to_linen_vars(state))


@fewer
@given(linen_modules)
def test_linen_modules_become_those_of_flax(spec: Spec) -> None:
    seen = []
    for bridge in (theirs, ours):
        made = bridge.ToNNX(RandomLinen(spec), rngs=nnx.Rngs(0, noise=1))
        with nnx.use_eager_sharding(False):
            states = [describe(state_of(bridge.lazy_init(made, X)))]
            for mutable in (False, [*COLLECTIONS[1:], "intermediates"]):
                states.append(describe(made(X, mutable=mutable)))
                states.append(describe(state_of(made)))
            graphdef, state = nnx.split(made)
            run = jax.jit(lambda s, g=graphdef: nnx.merge(g, s)(X, mutable=False))
            states.append(describe(run(state)))
        seen.append(states)
    assert seen[1] == seen[0]
    forget_programs()
