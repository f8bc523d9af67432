"""Rows of the second table: the vision-language-action model that the tests train, whose scanned
and rematerialised parts are Linen modules in a ToNNX."""

import functools
import pathlib
import sys
import typing as tp

import jax
import jax.numpy as jnp
from flax import nnx

import nnx_wrappers
from benchmarks.contenders import FLAX, three, traced, without_check
from benchmarks.measure import Contender
from benchmarks.rows import RealRow

BATCH = 2
Use = tp.Callable[[tp.Any, jax.Array, tp.Any, jax.Array], tp.Any]


@functools.cache
def parts() -> tuple[tp.Any, tp.Any]:
    """The class of the model and its sizes, which are among the tests of other libraries."""
    sys.path.append(str(pathlib.Path(__file__).parents[1] / "tests/ecosystem"))
    from vision_language import Sizes
    from vision_language_action import Policy

    return Policy, Sizes()


def observed(sizes: tp.Any) -> tuple[dict[str, jax.Array], jax.Array]:
    observation = {
        "image": jnp.ones((BATCH, sizes.image, sizes.image, 3)),
        "prompt": jnp.ones((BATCH, 3), jnp.int32),
        "state": jnp.ones((BATCH, sizes.action)),
    }
    return observation, jnp.ones((BATCH, sizes.horizon, sizes.action))


def training(policy: tp.Any, key: jax.Array, observation: tp.Any, actions: jax.Array) -> tp.Any:
    policy.train()
    return nnx.value_and_grad(type(policy).loss)(policy, key, observation, actions)


def sampling(policy: tp.Any, key: jax.Array, observation: tp.Any, actions: jax.Array) -> tp.Any:
    policy.eval()
    return policy.sample(key, observation, steps=4)


@functools.cache
def made(bridge: tp.Any) -> tuple[tp.Any, tp.Any]:
    """The model as a graph and a state. They take long to make, and no use changes them."""
    policy_class, sizes = parts()
    return nnx.split(policy_class(bridge, sizes, rngs=nnx.Rngs(0)))


def of_robot(use: Use) -> dict[str, Contender]:
    """Flax's bridge is `native` here: there is no such model without a bridge."""
    observation, actions = observed(parts()[1])

    def contender(bridge: tp.Any) -> Contender:
        graphdef, state = made(bridge)

        def step(state: tp.Any, key: jax.Array) -> tp.Any:
            return use(nnx.merge(graphdef, state), key, observation, actions)

        return traced(step, state, jax.random.key(0))

    flax = contender(FLAX)
    return three(flax, flax, contender(nnx_wrappers), floor=without_check(flax))


ROWS = tuple(
    RealRow(
        f"vision-language-action model, {name}", "Flax's bridge", state, goal,
        functools.partial(of_robot, use),
    )
    for name, use in (("gradient", training), ("sampling", sampling))
    for state, goal in (("cold", 0.60), ("warm", None))
)  # fmt: skip
