"""Variational states of netket and modules of numpyro, with NNX modules through either bridge."""

import jax
import jax.numpy as jnp
import netket
import numpyro
import optax
from flax import nnx
from numpyro.contrib.module import flax_module, random_flax_module

from conftest import both

KEY = jax.random.key(0)


class Mlp(nnx.Module):
    """A small network with as many outputs as asked for."""

    def __init__(self, inputs, outputs, width=8, squeeze=False, *, rngs):
        self.first = nnx.Linear(inputs, width, rngs=rngs)
        self.second = nnx.Linear(width, outputs, rngs=rngs)
        self.squeeze = squeeze

    def __call__(self, x):
        y = self.second(nnx.tanh(self.first(x)))
        return y[..., 0] if self.squeeze else y


def test_a_variational_state_of_netket():
    def program(bridge):
        space = netket.hilbert.Spin(s=0.5, N=4)
        operator = netket.operator.IsingJax(space, netket.graph.Chain(4), h=1.0)
        model = bridge.to_linen(Mlp, 4, 1, squeeze=True)
        state = netket.vqs.FullSumState(space, model, seed=0)
        driver = netket.VMC(operator, netket.optimizer.Sgd(0.05), variational_state=state)
        driver.run(3, show_progress=False, out=netket.logging.RuntimeLog())
        return state.parameters, state.expect(operator).mean

    both(program)


def test_a_module_of_numpyro():
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


def test_a_random_module_of_numpyro():
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
