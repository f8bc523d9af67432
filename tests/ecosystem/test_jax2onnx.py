"""Wrapped layers of Linen and wrapped modules of NNX, exported by jax2onnx, run by onnxruntime.

With either bridge around a layer of Linen the exported models must be the same, answer the same,
bit for bit, and answer what the wrapper itself does, within rounding. `REFUSED` has what jax2onnx
0.17.1 does not export on Flax's bridge either, and `WRONG` what it exports as another computation;
the test of a row fails as soon as the exporter can do it.

An NNX module in a `ToLinen` is exported on ours alone, as the model that it is without a bridge.
"""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import linen as nn
from flax import nnx
from jax2onnx import to_onnx

from conftest import BRIDGES
from nnx_wrappers import nnx_attrs_to_linen_vars

LIBRARIES = ("jax2onnx", "onnxruntime")
KEY = jax.random.key(0)
IMAGE, ROWS, TOKENS, WORDS = (2, 8, 8, 3), (2, 6), (2, 5, 6), "words"


class Net(nn.Module):
    """Convolution, batch norm and dropout in eval mode, and a dense head."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3))(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(3)(nn.Dropout(0.5, deterministic=True)(x.mean((1, 2))))


class Pooled(nn.Module):
    """A convolution, a pool, and a dense head."""

    pool: str

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3))(x))
        x = getattr(nn, self.pool)(x, window_shape=(2, 2), strides=(2, 2))
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


class PooledByPosition(nn.Module):
    """Max pool whose window is no keyword."""

    @nn.compact
    def __call__(self, x):
        return nn.max_pool(nn.Conv(4, (3, 3))(x), (2, 2), strides=(2, 2))


class Residual(nn.Module):
    """Two strided paths through an image, and a dense head."""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(4, (3, 3), strides=2, use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=True)(y))
        y = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3), use_bias=False)(y))
        shortcut = nn.Conv(4, (1, 1), strides=2)(x)
        return nn.Dense(3)(nn.relu(y + shortcut).mean((1, 2)))


class Steps(nn.Module):
    """A recurrent cell, step by step."""

    cell: type[nn.RNNCellBase]
    states: int = 1

    @nn.compact
    def __call__(self, x):
        cell, outputs = self.cell(4), []
        carry = jnp.zeros((x.shape[0], 4))
        if self.states == 2:
            carry = carry, carry
        for index in range(x.shape[1]):
            carry, output = cell(carry, x[:, index])
            outputs.append(output)
        return jnp.stack(outputs, 1)


class Bidirectional(nn.Module):
    """Two recurrent cells, forwards and backwards."""

    @nn.compact
    def __call__(self, x):
        return nn.Bidirectional(nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(4)))(x)


class Spectral(nn.Module):
    """Spectral norm in eval mode."""

    @nn.compact
    def __call__(self, x):
        return nn.SpectralNorm(nn.Dense(4))(x, update_stats=False)


class TiedEmbedding(nn.Module):
    """An embedding that is its own inverse."""

    def setup(self):
        self.embed = nn.Embed(7, 6)

    def __call__(self, words):
        return self.embed.attend(self.embed(words))


class Masked(nn.Module):
    """Attention that looks back only; `made` is whether Linen makes the mask."""

    made: bool

    @nn.compact
    def __call__(self, x):
        mask = nn.make_causal_mask(x[..., 0]) if self.made else np.tri(x.shape[1]) > 0
        return nn.MultiHeadDotProductAttention(2, deterministic=True)(x, mask=mask)


class Block(nn.Module):
    """A block of a transformer: layer norm, attention, layer norm, two dense layers."""

    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(2, deterministic=True)(nn.LayerNorm()(x))
        y = nn.gelu(nn.Dense(12)(nn.LayerNorm()(x)))
        return x + nn.Dropout(0.1, deterministic=True)(nn.Dense(6)(y))


class Encoder(nn.Module):
    """Words and their places, two blocks, and a head."""

    @nn.compact
    def __call__(self, words):
        places = self.param("places", nn.initializers.normal(), (words.shape[1], 6))
        x = nn.Embed(7, 6)(words) + places
        for _ in range(2):
            x = Block()(x)
        return nn.Dense(7)(nn.LayerNorm()(x))


class Lifted(nn.Module):
    """A dense layer under one of Linen's lifted transforms."""

    transform: str

    @nn.compact
    def __call__(self, x):
        if self.transform == "remat":
            return nn.remat(nn.Dense)(4)(x)
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        if self.transform == "vmap":
            return nn.vmap(nn.Dense, **axes)(4)(x)
        layers = nn.scan(lambda layer, x, _: (layer(x), None), length=3, **axes)
        return layers(nn.Dense(6), x, None)[0]


LAYERS = {
    "dense": (lambda: nn.Dense(4), ROWS),
    "dense without bias": (lambda: nn.Dense(4, use_bias=False), ROWS),
    "dense over two axes": (lambda: nn.DenseGeneral(4, axis=(-2, -1)), TOKENS),
    "einsum": (lambda: nn.Einsum((6, 4), "bi,ij->bj"), ROWS),
    "einsum to heads": (lambda: nn.Einsum((6, 2, 3), "bti,ihd->bthd"), TOKENS),
    "embed": (lambda: nn.Embed(7, 6), WORDS),
    "tied embedding": (lambda: TiedEmbedding(), WORDS),
    "conv": (lambda: nn.Conv(4, (3, 3)), IMAGE),
    "conv in one dimension": (lambda: nn.Conv(4, (3,)), TOKENS),
    "causal conv": (lambda: nn.Conv(4, (3,), padding="CAUSAL"), TOKENS),
    "strided conv": (lambda: nn.Conv(4, (3, 3), strides=2, padding="VALID"), IMAGE),
    "dilated conv": (lambda: nn.Conv(4, (3, 3), kernel_dilation=2), IMAGE),
    "depthwise conv": (lambda: nn.Conv(6, (3, 3), feature_group_count=3), IMAGE),
    "masked conv": (lambda: nn.Conv(4, (3, 3), mask=np.tri(27, 4).reshape(3, 3, 3, 4)), IMAGE),
    "local conv": (lambda: nn.ConvLocal(4, (3, 3)), IMAGE),
    "transposed conv": (lambda: nn.ConvTranspose(4, (3, 3)), IMAGE),
    "strided transposed conv": (lambda: nn.ConvTranspose(4, (3, 3), strides=(2, 2)), IMAGE),
    "average pool": (lambda: Pooled("avg_pool"), IMAGE),
    "max pool": (lambda: Pooled("max_pool"), IMAGE),
    "batch norm": (lambda: nn.BatchNorm(use_running_average=True), ROWS),
    "batch norm of an image": (
        lambda: nn.BatchNorm(use_running_average=True, use_scale=False),
        IMAGE,
    ),
    "layer norm": (lambda: nn.LayerNorm(), ROWS),
    "layer norm of an image": (lambda: nn.LayerNorm(reduction_axes=(1, 2, 3)), IMAGE),
    "group norm": (lambda: nn.GroupNorm(3), ROWS),
    "group norm of an image": (lambda: nn.GroupNorm(num_groups=None, group_size=1), IMAGE),
    "rms norm": (lambda: nn.RMSNorm(), ROWS),
    "instance norm": (lambda: nn.InstanceNorm(), IMAGE),
    "weight norm": (lambda: nn.WeightNorm(nn.Dense(4)), ROWS),
    "weight norm of a conv": (lambda: nn.WeightNorm(nn.Conv(4, (3, 3))), IMAGE),
    "spectral norm": (lambda: Spectral(), ROWS),
    "dropout": (lambda: nn.Dropout(0.5, deterministic=True), ROWS),
    "prelu": (lambda: nn.PReLU(), ROWS),
    "sequential": (lambda: nn.Sequential([nn.Dense(8), nn.gelu, nn.Dense(3), nn.softmax]), ROWS),
    "simple cell": (lambda: Steps(nn.SimpleCell), TOKENS),
    "gru cell": (lambda: Steps(nn.GRUCell), TOKENS),
    "mgu cell": (lambda: Steps(nn.MGUCell), TOKENS),
    "lstm cell": (lambda: Steps(nn.LSTMCell, states=2), TOKENS),
    "optimized lstm cell": (lambda: Steps(nn.OptimizedLSTMCell, states=2), TOKENS),
    "attention": (lambda: nn.MultiHeadDotProductAttention(2, deterministic=True), TOKENS),
    "attention of other widths": (
        lambda: nn.MultiHeadAttention(2, qkv_features=8, out_features=3, deterministic=True),
        TOKENS,
    ),
    "attention with normalized queries": (
        lambda: nn.MultiHeadAttention(2, normalize_qk=True, deterministic=True),
        TOKENS,
    ),
    "attention that looks back": (lambda: Masked(made=False), TOKENS),
    "self-attention": (lambda: nn.SelfAttention(2, deterministic=True), TOKENS),
    "remat": (lambda: Lifted("remat"), ROWS),
    "net": (lambda: Net(), IMAGE),
    "residual net": (lambda: Residual(), IMAGE),
    "transformer block": (lambda: Block(), TOKENS),
    "transformer encoder": (lambda: Encoder(), WORDS),
}

NO_JAXPR = (AttributeError, "module 'jax._src.core' has no attribute 'ClosedJaxpr'")
TRACED_SHAPE = (TypeError, "Shapes must be 1D sequences of concrete values of integer type")
REFUSED = {
    "circular conv": (lambda: nn.Conv(4, (3, 3), padding="CIRCULAR"), IMAGE, *NO_JAXPR),
    "reflecting conv": (lambda: nn.Conv(4, (3, 3), padding="REFLECT"), IMAGE, *NO_JAXPR),
    "relu looked up before the export": (
        lambda: nn.Sequential([nn.Dense(4), nn.relu]),
        ROWS,
        *NO_JAXPR,
    ),
    "silu": (lambda: nn.Sequential([nn.Dense(4), nn.silu]), ROWS, *NO_JAXPR),
    "glu": (lambda: nn.Sequential([nn.Dense(4), nn.glu]), ROWS, *NO_JAXPR),
    "log softmax": (lambda: nn.Sequential([nn.Dense(4), nn.log_softmax]), ROWS, *NO_JAXPR),
    "mask made by Linen": (lambda: Masked(made=True), TOKENS, *NO_JAXPR),
    "pool by position": (
        lambda: PooledByPosition(),
        IMAGE,
        TypeError,
        "takes 1 positional argument but 2 positional arguments",
    ),
    "rnn of simple cells": (lambda: nn.RNN(nn.SimpleCell(4)), TOKENS, *TRACED_SHAPE),
    "rnn of gru cells": (lambda: nn.RNN(nn.GRUCell(4)), TOKENS, *TRACED_SHAPE),
    "rnn of mgu cells": (lambda: nn.RNN(nn.MGUCell(4)), TOKENS, *TRACED_SHAPE),
    "rnn of lstm cells": (lambda: nn.RNN(nn.LSTMCell(4)), TOKENS, *TRACED_SHAPE),
    "rnn of optimized lstm cells": (
        lambda: nn.RNN(nn.OptimizedLSTMCell(4)),
        TOKENS,
        *TRACED_SHAPE,
    ),
    "rnn of convolutional lstm cells": (
        lambda: nn.RNN(nn.ConvLSTMCell(4, (3, 3))),
        (2, 3, 8, 8, 3),
        *TRACED_SHAPE,
    ),
    "bidirectional rnn": (lambda: Bidirectional(), TOKENS, *TRACED_SHAPE),
    "scan": (lambda: Lifted("scan"), ROWS, *TRACED_SHAPE),
    "vmap": (
        lambda: Lifted("vmap"),
        TOKENS,
        NotImplementedError,
        "Batching rule for 'linen.dense' not implemented",
    ),
}
WRONG = {
    # The features are one axis in the exported model.
    "dense with two axes of features": (lambda: nn.DenseGeneral((2, 3)), ROWS),
    # Linen rounds to half precision; the exported model does not.
    "dense in half precision": (lambda: nn.Dense(4, dtype=jnp.float16), ROWS),
}


class Head(nnx.Module):
    """NNX's own layers: dense, batch norm, dropout."""

    def __init__(self, *, rngs):
        self.first = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, use_running_average=True, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, deterministic=True, rngs=rngs)
        self.second = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.second(self.dropout(nnx.tanh(self.norm(self.first(x)))))


class Attending(nnx.Module):
    """NNX's own layer norm and attention."""

    def __init__(self, *, rngs):
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, deterministic=True, rngs=rngs)

    def __call__(self, x):
        return x + self.attention(self.norm(x))


class Image(nnx.Module):
    """NNX's own convolution and group norm."""

    def __init__(self, *, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, rngs=rngs)

    def __call__(self, x):
        return self.norm(self.conv(x)).mean((1, 2))


MODULES = {"head": (Head, ROWS), "attending": (Attending, TOKENS), "image": (Image, IMAGE)}


def example(shape):
    if shape == WORDS:
        return jnp.array([[1, 2, 3], [4, 5, 6]])
    return jax.random.normal(KEY, shape)


def exported(function, x):
    """What the exported model answers, what the function itself does, and the kinds of nodes."""
    proto = to_onnx(function, [jax.ShapeDtypeStruct(x.shape, x.dtype)])
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (output,) = session.run(None, {session.get_inputs()[0].name: np.asarray(x)})
    nodes = [node.op_type for node in proto.graph.node]
    assert nodes
    return output, np.asarray(function(x)), nodes


def exported_layer(bridge, make, shape):
    x = example(shape)
    model = bridge.lazy_init(bridge.ToNNX(make(), rngs=nnx.Rngs(0)), x)
    if bridge is BRIDGES["flax"]:
        model.to_nnx__rngs = None  # Flax's own refuses to be traced with its streams
    return exported(model, x)


def same_nodes(program):
    """The program without the kinds of nodes, which are no arrays; they are compared here."""
    seen = []

    def without(bridge):
        output, own, nodes = program(bridge)
        seen.append(nodes)
        assert nodes == seen[0]
        return output, own

    return without


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.short if name == "net" else ()) for name in LAYERS],
)
def test_a_wrapped_layer(both, name):
    output, own = both(same_nodes(lambda bridge: exported_layer(bridge, *LAYERS[name])))
    assert output.shape == own.shape
    np.testing.assert_allclose(output, own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_a_wrapped_module_as_without_a_bridge(row, name):
    module, shape = MODULES[name]
    native, x = module(rngs=nnx.Rngs(0)), example(shape)
    variables = nnx_attrs_to_linen_vars(nnx.state(native, (nnx.Param, nnx.BatchStat)))

    def through(bridge):
        return exported(lambda x: bridge.to_linen(module).apply(variables, x), x)

    # Flax's runs the constructor in the trace, and the exporter refuses its random numbers.
    with pytest.raises(NO_JAXPR[0], match=NO_JAXPR[1]):
        through(BRIDGES["flax"])
    for mine, reference in zip(through(BRIDGES["ours"]), exported(native, x), strict=True):
        np.testing.assert_array_equal(mine, reference)
    row("only ours", 2)


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_exporter(both_fail, name):
    make, shape, error, words = REFUSED[name]
    both_fail(lambda bridge: exported_layer(bridge, make, shape), error, words)


@pytest.mark.parametrize("name", WRONG)
def test_exported_wrongly(both, name):
    output, own = both(same_nodes(lambda bridge: exported_layer(bridge, *WRONG[name])))
    assert output.shape != own.shape or not np.allclose(output, own, rtol=1e-4, atol=1e-5)
