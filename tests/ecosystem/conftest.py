"""The two bridges, side by side."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import numpy as np
from flax import nnx

import nnx_wrappers

BRIDGES = {"flax": nnx.bridge, "ours": nnx_wrappers}


def both(program):
    """Runs a program on either bridge and compares all the arrays it returns, bit for bit."""
    found = {name: jax.tree.map(np.asarray, program(bridge)) for name, bridge in BRIDGES.items()}
    leaves = {name: jax.tree.leaves(tree) for name, tree in found.items()}
    assert len(leaves["flax"]) == len(leaves["ours"]) > 0
    for reference, mine in zip(leaves["flax"], leaves["ours"], strict=True):
        np.testing.assert_array_equal(mine, reference)
        assert mine.dtype == reference.dtype
    return found["ours"]
