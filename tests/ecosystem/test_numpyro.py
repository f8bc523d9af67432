"""Modules of numpyro, with NNX modules through either bridge."""

import jax
import jax.numpy as jnp
import numpyro
import optax
import pytest
from models import Mlp
from numpyro.contrib.module import flax_module, random_flax_module

LIBRARIES = ("numpyro",)


@pytest.mark.short
def test_a_module(both):
    x = jnp.linspace(-1, 1, 10)[:, None]
    y = jnp.sin(3 * x[:, 0])

    def program(bridge):
        def model(x, y):
            net = flax_module("net", bridge.to_linen(Mlp, 1, 1, squeeze=True), input_shape=(1, 1))
            numpyro.sample("y", numpyro.distributions.Normal(net(x), 0.1), obs=y)

        svi = numpyro.infer.SVI(
            model, lambda x, y: None, optax.sgd(0.001), numpyro.infer.Trace_ELBO()
        )
        result = svi.run(jax.random.PRNGKey(0), 3, x, y, progress_bar=False)
        return result.params, result.losses

    both(program)


def test_a_random_module(both):
    x = jnp.linspace(-1, 1, 6)[:, None]

    def program(bridge):
        def model(x):
            net = random_flax_module(
                "net",
                bridge.to_linen(Mlp, 1, 1, squeeze=True),
                numpyro.distributions.Normal(0, 1),
                input_shape=(1, 1),
            )
            numpyro.deterministic("out", net(x))

        seeded = numpyro.handlers.seed(model, 0)
        trace = numpyro.handlers.trace(seeded).get_trace(x)
        return {name: site["value"] for name, site in trace.items() if "value" in site}

    both(program)
