"""A vision-language-action model, made, trained, sampled and restored through either bridge.

This is the kind of program that robotics code builds around ToNNX, on Flax from 0.10.2. The tests
need nothing but Flax, optax and Orbax, and use only what each of those versions has.
"""

import functools

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from vision_language import Sizes
from vision_language_action import Policy

jax.config.update("jax_disable_most_optimizations", True)  # compiling is what takes the time

LIBRARIES = ("flax", "jax")
BATCH = 2


def is_frozen(path, leaf):
    """Whether this is a weight of the wide expert or of the words, but no low-rank pair."""
    narrow = any(str(name).endswith("_1") for name in path)
    return "language" in path and not narrow and not str(path[-1]).startswith("lora_")


TRAINED = nnx.All(nnx.Param, nnx.Not(is_frozen))


@functools.cache
def maker(bridge):
    """Makes a model from a key, with its frozen weights in bfloat16, as a graph and a state."""

    @jax.jit
    def make(key):
        policy = Policy(bridge, Sizes(), rngs=nnx.Rngs(key))
        made = jax.tree.map(lambda x: x, nnx.state(policy))  # which no later update changes
        frozen = jax.tree.map(lambda x: x.astype(jnp.bfloat16), made.filter(is_frozen))
        nnx.update(policy, frozen)
        return *nnx.split(policy), made

    return make


def batch():
    """Observations and actions."""
    sizes, random = Sizes(), np.random.default_rng(1)
    observation = {
        "image": random.random((BATCH, sizes.image, sizes.image, 3), np.float32),
        "prompt": random.integers(0, sizes.vocabulary, (BATCH, 3), np.int32),
        "state": random.random((BATCH, sizes.action), np.float32),
    }
    return observation, random.random((BATCH, sizes.horizon, sizes.action), np.float32)


@flax.struct.dataclass
class Run:
    """What a training carries from step to step."""

    step: jax.Array
    graphdef: nnx.GraphDef
    params: nnx.State
    average: nnx.State
    optimizer: optax.OptState


def optimizer():
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.01, b2=0.95))


def new_run(bridge):
    graphdef, params, _ = maker(bridge)(jax.random.key(0))
    return Run(jnp.int32(0), graphdef, params, params, optimizer().init(params.filter(TRAINED)))


@jax.jit
def trained(run, key, observation, actions):
    """The run after a step, and the loss and the norm of the gradient in it."""
    policy = nnx.merge(run.graphdef, run.params)
    policy.train()
    loss, gradient = nnx.value_and_grad(Policy.loss, argnums=nnx.DiffState(0, TRAINED))(
        policy, jax.random.fold_in(key, run.step), observation, actions
    )
    params = run.params.filter(TRAINED)
    updates, state = optimizer().update(gradient, run.optimizer, params)
    nnx.update(policy, optax.apply_updates(params, updates))
    params = nnx.state(policy)
    average = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, run.average, params)
    run = run.replace(step=run.step + 1, params=params, average=average, optimizer=state)
    return run, (loss, optax.global_norm(gradient))


@jax.jit
def sampled(graphdef, params, key, observation):
    policy = nnx.merge(graphdef, params)
    policy.eval()
    return policy.sample(key, observation, steps=4)


def kinds(state):
    """By path, which kind of Variable there is, in words of every version of Flax."""
    flat = dict(state.flat_state())
    return {
        "/".join(map(str, path)): getattr(leaf, "type", type(leaf)).__name__
        for path, leaf in flat.items()
    }


def pure(state):
    """The arrays of a state in dictionaries."""
    return nnx.to_pure_dict(state) if hasattr(nnx, "to_pure_dict") else state.to_pure_dict()


def replace_by_pure(state, arrays):
    """Puts the arrays into the state."""
    if hasattr(nnx, "replace_by_pure_dict"):
        nnx.replace_by_pure_dict(state, arrays)
    else:
        state.replace_by_pure_dict(arrays)


def test_a_vision_language_action_model_as_it_is_made(both):
    def program(bridge):
        _, cast, made = maker(bridge)(jax.random.key(0))
        return kinds(made), made, cast

    found, made, cast = both(program)
    assert set(found.values()) == {"Param"}
    assert any(name.endswith("lora_up") for name in found)
    assert {str(x.dtype) for x in jax.tree.leaves(made)} == {"float32"}
    for state, dtype in ((is_frozen, "bfloat16"), (TRAINED, "float32")):
        assert {str(x.dtype) for x in jax.tree.leaves(cast.filter(state))} == {dtype}


@pytest.mark.short
def test_a_vision_language_action_model_trained(both):
    def program(bridge):
        run, data, scores = new_run(bridge), batch(), []
        first = run.params
        for _ in range(3):
            run, score = trained(run, jax.random.key(2), *data)
            scores.append(score)
        actions = sampled(run.graphdef, run.average, jax.random.key(3), data[0])
        return first, run.params, run.average, run.optimizer, scores, actions

    first, params, *_, scores, actions = both(program)
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), first, params)
    assert all(jax.tree.leaves(moved.filter(TRAINED)))
    assert not any(jax.tree.leaves(moved.filter(is_frozen)))
    assert np.isfinite(scores).all()
    assert np.isfinite(actions).all()


def test_a_vision_language_action_model_saved_and_restored(both, tmp_path):
    def program(bridge):
        (observation, actions), folder = batch(), tmp_path / bridge.__name__
        run, _ = trained(new_run(bridge), jax.random.key(2), observation, actions)
        with ocp.PyTreeCheckpointer() as checkpointer:
            # Arrays of the host: Orbax 0.11.24 installs with JAX 0.5.3 but cannot save JAX's there.
            checkpointer.save(folder, jax.tree.map(np.asarray, pure(run.params)))
            arrays = checkpointer.restore(folder)

        graphdef, fresh, _ = maker(bridge)(jax.random.key(1))
        policy = nnx.merge(graphdef, fresh)
        replace_by_pure(fresh, arrays)
        nnx.update(policy, fresh)
        restored = nnx.split(policy)
        samples = [
            sampled(*halves, jax.random.key(3), observation)
            for halves in ((run.graphdef, run.params), restored)
        ]
        return run.params, restored[1], samples

    params, restored, (before, after) = both(program)
    assert kinds(params) == kinds(restored)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, restored))
    assert np.asarray(before).tobytes() == np.asarray(after).tobytes()
