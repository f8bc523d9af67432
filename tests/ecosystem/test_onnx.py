"""Wrapped Linen layers, exported to ONNX by jax2onnx and run by onnxruntime."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import linen as nn
from flax import nnx
from jax2onnx import to_onnx

from conftest import BRIDGES

KEY = jax.random.key(0)
IMAGE, ROWS, TOKENS = (2, 8, 8, 3), (2, 6), (2, 5, 6)


class Net(nn.Module):
    """Convolution, batch norm and dropout in eval mode, and a dense head."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=True)(x.mean((1, 2))))


LAYERS = {
    "dense": (lambda: nn.Dense(4), ROWS),
    "dense without bias": (lambda: nn.Dense(4, use_bias=False), ROWS),
    "einsum": (lambda: nn.Einsum((6, 4), "bi,ij->bj"), ROWS),
    "conv": (lambda: nn.Conv(4, (3, 3)), IMAGE),
    "strided conv": (lambda: nn.Conv(4, (3, 3), strides=2, padding="VALID"), IMAGE),
    "transposed conv": (lambda: nn.ConvTranspose(4, (3, 3)), IMAGE),
    "batch norm": (lambda: nn.BatchNorm(use_running_average=True), ROWS),
    "layer norm": (lambda: nn.LayerNorm(), ROWS),
    "group norm": (lambda: nn.GroupNorm(3), ROWS),
    "rms norm": (lambda: nn.RMSNorm(), ROWS),
    "instance norm": (lambda: nn.InstanceNorm(), IMAGE),
    "weight norm": (lambda: nn.WeightNorm(nn.Dense(4)), ROWS),
    "dropout": (lambda: nn.Dropout(0.5, deterministic=True), ROWS),
    "prelu": (lambda: nn.PReLU(), ROWS),
    "attention": (lambda: nn.MultiHeadDotProductAttention(2, deterministic=True), TOKENS),
    "net": (lambda: Net(), IMAGE),
}


def exported(bridge, make, shape):
    """What the exported model answers, and what the wrapper itself does."""
    x = jax.random.normal(KEY, shape)
    model = bridge.lazy_init(bridge.ToNNX(make(), rngs=nnx.Rngs(0)), x)
    if bridge is not BRIDGES["ours"]:
        model.to_nnx__rngs = None  # Flax's own refuses to be traced with its streams
    proto = to_onnx(model, [shape])
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (output,) = session.run(None, {session.get_inputs()[0].name: np.asarray(x)})
    return output, np.asarray(model(x)), len(proto.graph.node)


@pytest.mark.parametrize("name", LAYERS)
def test_a_wrapped_layer_is_exported_with_its_numbers(name):
    make, shape = LAYERS[name]
    (theirs, direct, nodes), (mine, own, count) = (
        exported(BRIDGES[side], make, shape) for side in ("flax", "ours")
    )
    np.testing.assert_array_equal(own, direct)
    np.testing.assert_array_equal(mine, theirs)
    assert count == nodes
    np.testing.assert_allclose(mine, own, rtol=1e-4, atol=1e-5)


def test_a_net_with_batch_norm_and_dropout_is_exported():
    output, own, nodes = exported(BRIDGES["ours"], *LAYERS["net"])
    assert nodes > 3
    assert jnp.shape(own) == (2, 3)
    np.testing.assert_allclose(output, own, rtol=1e-4, atol=1e-5)
