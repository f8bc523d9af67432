"""Kolmogorov-Arnold networks of jaxkan, through either bridge.

Its layers take a seed, and make their own `nnx.Rngs` of it: they are wrapped with `skip_rng=True`.

jaxkan 0.2.13 keeps its layers in a plain list, which Flax 0.12.12 refuses, with either bridge and
with none; `test_a_plain_list_of_layers_is_refused` has the error. One line in a subclass is enough
to have it accepted.
"""

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn
from flax import nnx
from jaxkan.KAN import KAN
from jaxkan.layers import ChebyshevLayer

LIBRARIES = ("jaxkan",)
OPTIONS = {
    "base": {"k": 3, "G": 4},
    "spline": {"k": 3, "G": 4},
    "chebyshev": {"D": 4},
    "legendre": {"D": 4},
    "fourier": {"D": 4},
    "rbf": {"D": 4},
    "sine": {"D": 4},
}
X = jax.random.uniform(jax.random.key(0), (16, 2), minval=-1, maxval=1)
Y = jnp.sin(3 * X[:, :1]) * X[:, 1:]


class Kan(KAN):
    """jaxkan's own network; Flax is told that its list holds modules."""

    layers: list = nnx.data()


class Mixed(nn.Module):
    """A layer of jaxkan between two of Linen."""

    bridge: object

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(3)(x))
        x = self.bridge.to_linen(ChebyshevLayer, 3, 4, D=4, skip_rng=True, name="kan")(x)
        return nn.Dense(1)(x)


def trained(model):
    """Variables, outputs and gradients before, and losses and parameters of three steps of Adam."""
    variables = model.init(jax.random.key(1), X)

    def loss(params):
        return jnp.mean((model.apply({**variables, "params": params}, X) - Y) ** 2)

    optimizer = optax.adam(0.01)

    @jax.jit
    def step(params, state):
        value, gradients = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    params, losses = variables["params"], []
    before = variables, model.apply(variables, X), jax.grad(loss)(params)
    state = optimizer.init(params)
    for _ in range(3):
        params, state, value = step(params, state)
        losses.append(value)
    assert losses[2] < losses[0]
    return before, losses, params


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=pytest.mark.short if kind == "rbf" else ()) for kind in OPTIONS],
)
def test_a_network_of_layers(both, kind):
    both(
        lambda bridge: trained(
            bridge.to_linen(Kan, [2, 4, 1], kind, OPTIONS[kind], skip_rng=True, seed=7)
        )
    )


def test_a_layer_between_layers_of_linen(both):
    both(lambda bridge: trained(Mixed(bridge)))


def test_a_plain_list_of_layers_is_refused(both_fail):
    both_fail(
        lambda bridge: bridge.to_linen(
            KAN, [2, 4, 1], "chebyshev", OPTIONS["chebyshev"], skip_rng=True
        ).init(jax.random.key(0), X),
        ValueError,
        "Found data on value of type '<class 'list'>' assigned to static attribute 'layers'",
    )
