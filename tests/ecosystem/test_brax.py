"""Trainings of brax, with networks that are NNX modules through either bridge.

brax 0.14.2 calls `jax.device_put_replicated`, which JAX 0.12 has no more: each of its trainings
ends in an AttributeError, whatever its networks are (google/brax#671). The programs give JAX the
function back, as its guide on the new `jax.pmap` describes it. The last test notices when brax
needs it no more.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs
from brax.training import distribution
from brax.training.agents.ppo import networks as ppo_networks
from brax.training.agents.ppo import train as ppo
from brax.training.agents.sac import networks as sac_networks
from brax.training.agents.sac import train as sac
from brax.training.networks import FeedForwardNetwork
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from models import Mlp

LIBRARIES = ("brax",)
ROLLOUT = {"num_timesteps": 256, "episode_length": 32, "num_envs": 4}
PPO = {**ROLLOUT, "batch_size": 4, "num_minibatches": 2, "unroll_length": 8, "run_evals": False}
SAC = {**ROLLOUT, "batch_size": 8, "min_replay_size": 64, "max_replay_size": 512}
OBSERVATIONS = jax.random.normal(jax.random.key(3), (5, 2))


class Critics(nnx.Module):
    """Two estimates of the value of an action."""

    def __init__(self, inputs, *, rngs):
        self.members = nnx.List([Mlp(inputs, 1, rngs=rngs) for _ in range(2)])

    def __call__(self, x, action):
        x = jnp.concatenate([x, action], -1)
        return jnp.concatenate([member(x) for member in self.members], -1)


def device_put_replicated(tree, devices):
    """A copy of each array on each device, along a new first axis."""
    sharding = NamedSharding(Mesh(np.array(devices), ("copies",)), PartitionSpec("copies"))
    return jax.tree.map(
        lambda leaf: jax.device_put(jnp.stack([leaf] * len(devices)), sharding), tree
    )


@pytest.fixture
def replicated(monkeypatch):
    monkeypatch.setattr(jax, "device_put_replicated", device_put_replicated, raising=False)


def network(model, preprocess, *inputs):
    """A wrapped module as brax wants its networks; the first input is an observation."""
    return FeedForwardNetwork(
        init=lambda key: model.init(key, *inputs),
        apply=lambda normalizer, variables, x, *rest: model.apply(
            variables, preprocess(x, normalizer), *rest
        ),
    )


def trained(agent, factory, **options):
    """Parameters, metrics without times, and actions of a training that takes seconds."""
    make_policy, params, metrics = agent.train(
        envs.get_environment("fast"),
        network_factory=factory,
        normalize_observations=True,
        num_evals=2,
        num_eval_envs=4,
        **options,
    )
    metrics = {
        name: value
        for name, value in metrics.items()
        if not name.endswith(("/sps", "walltime", "_time"))
    }
    assert any(name.startswith("training/") for name in metrics)
    actions, _ = make_policy(params, deterministic=True)(OBSERVATIONS, jax.random.key(0))
    return params, metrics, actions


@pytest.mark.short
def test_a_policy_and_a_value_trained_by_ppo(both, replicated):
    def program(bridge):
        def factory(observation_shape, action_size, preprocess_observations_fn):
            actions = distribution.NormalTanhDistribution(event_size=action_size)
            (size,), x = observation_shape, jnp.zeros((1, *observation_shape))
            policy = bridge.to_linen(Mlp, size, actions.param_size)
            value = bridge.to_linen(Mlp, size, 1, squeeze=True)
            return ppo_networks.PPONetworks(
                network(policy, preprocess_observations_fn, x),
                network(value, preprocess_observations_fn, x),
                actions,
            )

        return trained(ppo, factory, **PPO)

    both(program)


def test_a_policy_and_its_critics_trained_by_sac(both, replicated):
    def program(bridge):
        def factory(observation_size, action_size, preprocess_observations_fn):
            actions = distribution.NormalTanhDistribution(event_size=action_size)
            x, action = jnp.zeros((1, observation_size)), jnp.zeros((1, action_size))
            policy = bridge.to_linen(Mlp, observation_size, actions.param_size)
            critics = bridge.to_linen(Critics, observation_size + action_size)
            return sac_networks.SACNetworks(
                network(policy, preprocess_observations_fn, x),
                network(critics, preprocess_observations_fn, x, action),
                actions,
            )

        return trained(sac, factory, **SAC)

    both(program)


def test_brax_with_its_own_networks_still_needs_the_replacement():
    with pytest.raises(AttributeError, match=r"jax\.device_put_replicated is deprecated"):
        trained(ppo, ppo_networks.make_ppo_networks, **PPO)
