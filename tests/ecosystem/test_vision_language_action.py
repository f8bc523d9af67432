"""A vision-language-action model, made, trained, sampled and restored through either bridge.

This is the kind of program that robotics code builds around ToNNX, on Flax from 0.10.2. The tests
need nothing but Flax, optax and Orbax, and use only what each of those versions has.
"""

import flax.struct
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from vision_language import Sizes
from vision_language_action import Policy

LIBRARIES = ("flax", "optax", "orbax-checkpoint")
BATCH = 2


def is_frozen(path, leaf):
    """Whether this is a weight of the wide expert or of the words, but no low-rank pair."""
    narrow = any(str(name).endswith("_1") for name in path)
    return "language" in path and not narrow and not str(path[-1]).startswith("lora_")


TRAINED = nnx.All(nnx.Param, nnx.Not(is_frozen))


def new_policy(bridge, seed=0):
    """A model with its frozen weights in bfloat16."""
    policy = Policy(bridge, Sizes(), rngs=nnx.Rngs(seed))
    frozen = nnx.state(policy).filter(is_frozen)
    nnx.update(policy, jax.tree.map(lambda x: x.astype(jnp.bfloat16), frozen))
    return policy


def batch():
    """Observations and actions."""
    sizes = Sizes()
    keys = jax.random.split(jax.random.key(1), 4)
    observation = {
        "image": jax.random.uniform(keys[0], (BATCH, sizes.image, sizes.image, 3)),
        "prompt": jax.random.randint(keys[1], (BATCH, 3), 0, sizes.vocabulary),
        "state": jax.random.normal(keys[2], (BATCH, sizes.action)),
    }
    return observation, jax.random.normal(keys[3], (BATCH, sizes.horizon, sizes.action))


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


def new_run(policy):
    graphdef, params = nnx.split(policy)
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


def test_a_vision_language_action_model_as_it_is_made(both):
    def program(bridge):
        state = nnx.state(Policy(bridge, Sizes(), rngs=nnx.Rngs(0)))
        return kinds(state), state

    found, _ = both(program)
    assert set(found.values()) == {"Param"}
    assert any(name.endswith("lora_up") for name in found)


@pytest.mark.short
def test_a_vision_language_action_model_trained(both):
    def program(bridge):
        run, data = new_run(new_policy(bridge)), batch()
        started, scores = run.params, []
        for _ in range(3):
            run, score = trained(run, jax.random.key(2), *data)
            scores.append(score)
        actions = sampled(run.graphdef, run.average, jax.random.key(3), data[0])
        return run.params, run.average, run.optimizer, scores, actions, started

    params, average, *_, scores, actions, started = both(program)
    moved = jax.tree.map(lambda old, new: bool((old != new).any()), started, params)
    assert all(jax.tree.leaves(moved.filter(TRAINED)))
    assert not any(jax.tree.leaves(moved.filter(is_frozen)))
    assert {x.dtype for x in jax.tree.leaves(params.filter(is_frozen))} == {jnp.bfloat16}
    assert jnp.isfinite(jnp.array(scores)).all()
    assert jnp.isfinite(actions).all()


def test_a_vision_language_action_model_without_jit(both):
    def program(bridge):
        policy, (observation, actions) = new_policy(bridge), batch()
        loss = policy.loss(jax.random.key(2), observation, actions)
        return loss, policy.sample(jax.random.key(3), observation, steps=2)

    both(program)


def test_a_vision_language_action_model_saved_and_restored(both, tmp_path):
    def program(bridge):
        data, folder = batch(), tmp_path / bridge.__name__
        run, _ = trained(new_run(new_policy(bridge)), jax.random.key(2), *data)
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save(folder, pure(run.params))
            arrays = checkpointer.restore(folder)

        policy = new_policy(bridge, seed=1)
        graphdef, fresh = nnx.split(policy)
        replace = getattr(nnx, "replace_by_pure_dict", None) or type(fresh).replace_by_pure_dict
        replace(fresh, arrays)
        nnx.update(policy, fresh)
        graphdef, restored = nnx.split(policy)
        before, after = (
            sampled(graph, params, jax.random.key(3), data[0])
            for graph, params in ((run.graphdef, run.params), (graphdef, restored))
        )
        return run.params, restored, before, after

    params, restored, before, after = both(program)
    assert kinds(params) == kinds(restored)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), params, restored))
    assert before.tobytes() == after.tobytes()
