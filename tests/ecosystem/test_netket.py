"""Variational states of netket, with NNX modules through either bridge.

Importing netket turns 64 bits on in JAX, for the whole process.
"""

import netket
import pytest
from models import Mlp

LIBRARIES = ("netket",)


@pytest.mark.short
def test_a_variational_state(both):
    def program(bridge):
        space = netket.hilbert.Spin(s=0.5, N=4)
        operator = netket.operator.IsingJax(space, netket.graph.Chain(4), h=1.0)
        model = bridge.to_linen(Mlp, 4, 1, squeeze=True)
        state = netket.vqs.FullSumState(space, model, seed=0)
        driver = netket.VMC(operator, netket.optimizer.Sgd(0.05), variational_state=state)
        driver.run(3, show_progress=False, out=netket.logging.RuntimeLog())
        return state.parameters, state.expect(operator).mean

    both(program)
