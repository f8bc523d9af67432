"""Every layer class of flax.linen: how it is bridged, or why it cannot be."""

import functools
import typing as tp

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import fp8_ops, linear, module, recurrent
from flax.linen.experimental import layers_with_named_axes as named_axes

from .case import Case, floats, tokens

X = floats(2, 4)
SEQUENCE = floats(2, 3, 4)
IMAGE = floats(1, 4, 4, 2)
CONTRACT_LAST = (((1,), (0,)), ((), ()))


def _case(name: str, build: tp.Any, *args: tp.Any, **options: tp.Any) -> Case:
    return Case(name, build, args, **options)


def _cell(name: str, build: tp.Any, carry: tp.Any) -> Case:
    methods = {"initialize_carry": (jax.random.key(1), (2, 4))}
    return _case(name, build, carry, X, methods=methods)


def _attention(name: str, build: tp.Any, *args: tp.Any, **options: tp.Any) -> Case:
    return _case(name, build, *args, streams=("params", "dropout"), **options)


def _fp8(name: str, build: tp.Any) -> Case:
    return _case(name, build, X, floats(4, 3), CONTRACT_LAST)


_dropout = {"dropout_rate": 0.5, "deterministic": False}
_heads = {"num_heads": 2, "qkv_features": 4}
_masked = {"mask": nn.make_causal_mask(jnp.ones((2, 3)))}

CATALOGUE: dict[type[nn.Module], tuple[Case, ...]] = {
    nn.PReLU: (_case("PReLU", nn.PReLU, X),),
    nn.MultiHeadDotProductAttention: (
        _attention(
            "MultiHeadDotProductAttention",
            lambda: nn.MultiHeadDotProductAttention(**_heads, **_dropout),
            SEQUENCE,
            SEQUENCE,
            kwargs=_masked,
        ),
    ),
    nn.MultiHeadAttention: (
        _attention(
            "MultiHeadAttention",
            lambda: nn.MultiHeadAttention(**_heads, **_dropout, normalize_qk=True),
            SEQUENCE,
        ),
        _attention(
            "MultiHeadAttention-sow",
            lambda: nn.MultiHeadAttention(**_heads),
            SEQUENCE,
            kwargs={"sow_weights": True},
        ),
        _attention(
            "MultiHeadAttention-decode",
            lambda: nn.MultiHeadAttention(**_heads, decode=True),
            floats(2, 1, 4),
            init_args=(SEQUENCE,),
        ),
    ),
    nn.SelfAttention: (
        _attention("SelfAttention", lambda: nn.SelfAttention(**_heads, **_dropout), SEQUENCE),
        _attention(
            "SelfAttention-decode",
            lambda: nn.SelfAttention(**_heads, decode=True),
            floats(2, 1, 4),
            init_args=(SEQUENCE,),
        ),
    ),
    nn.Sequential: (
        _case("Sequential", lambda: nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)]), X),
    ),
    nn.Fp8DotGeneralOp: (_fp8("Fp8DotGeneralOp", nn.Fp8DotGeneralOp),),
    nn.Fp8DirectDotGeneralOp: (_fp8("Fp8DirectDotGeneralOp", nn.Fp8DirectDotGeneralOp),),
    nn.NANOOFp8DotGeneralOp: (_fp8("NANOOFp8DotGeneralOp", nn.NANOOFp8DotGeneralOp),),
    nn.Fp8Einsum: (_case("Fp8Einsum", nn.Fp8Einsum, "ij,jk->ik", X, floats(4, 3)),),
    nn.Dense: (
        _case("Dense", lambda: nn.Dense(3), X),
        _case("Dense-bfloat16", lambda: nn.Dense(3, param_dtype=jnp.bfloat16), X),
        _case("Dense-complex64", lambda: nn.Dense(3, param_dtype=jnp.complex64), X),
        _case("Dense-fp8", lambda: nn.Dense(3, dot_general_cls=nn.Fp8DirectDotGeneralOp), X),
    ),
    nn.DenseGeneral: (
        _case("DenseGeneral", lambda: nn.DenseGeneral((2, 3), axis=(1, 2)), SEQUENCE),
    ),
    nn.Einsum: (_case("Einsum", lambda: nn.Einsum((4, 3), "ab,bc->ac"), X),),
    nn.Conv: (
        _case("Conv", lambda: nn.Conv(3, (2, 2)), IMAGE),
        _case("Conv-bfloat16", lambda: nn.Conv(3, (2,), dtype=jnp.bfloat16), SEQUENCE),
    ),
    linear._Conv: (_case("_Conv", lambda: linear._Conv(3, (2,)), SEQUENCE),),
    nn.ConvLocal: (_case("ConvLocal", lambda: nn.ConvLocal(3, (2,)), SEQUENCE),),
    nn.ConvTranspose: (_case("ConvTranspose", lambda: nn.ConvTranspose(3, (2, 2)), IMAGE),),
    nn.Embed: (
        _case("Embed", lambda: nn.Embed(5, 4), tokens(2, 3), methods={"attend": (X,)}),
        _case("Embed-bfloat16", lambda: nn.Embed(5, 4, param_dtype=jnp.bfloat16), tokens(2, 3)),
    ),
    nn.BatchNorm: (
        _case("BatchNorm", lambda: nn.BatchNorm(use_running_average=False), X),
        _case("BatchNorm-average", nn.BatchNorm, X, kwargs={"use_running_average": True}),
    ),
    nn.LayerNorm: (_case("LayerNorm", nn.LayerNorm, X),),
    nn.RMSNorm: (_case("RMSNorm", nn.RMSNorm, X),),
    nn.GroupNorm: (_case("GroupNorm", lambda: nn.GroupNorm(num_groups=2), X),),
    nn.InstanceNorm: (_case("InstanceNorm", nn.InstanceNorm, SEQUENCE),),
    nn.SpectralNorm: (
        _case(
            "SpectralNorm",
            lambda: nn.SpectralNorm(nn.Dense(3)),
            X,
            kwargs={"update_stats": True},
        ),
    ),
    nn.WeightNorm: (_case("WeightNorm", lambda: nn.WeightNorm(nn.Dense(3)), X),),
    nn.Dropout: (
        _case(
            "Dropout",
            lambda: nn.Dropout(0.5, deterministic=False),
            X,
            streams=("params", "dropout"),
        ),
    ),
    nn.LSTMCell: (_cell("LSTMCell", lambda: nn.LSTMCell(3), (floats(2, 3), floats(2, 3))),),
    nn.OptimizedLSTMCell: (
        _cell("OptimizedLSTMCell", lambda: nn.OptimizedLSTMCell(3), (floats(2, 3), floats(2, 3))),
    ),
    nn.SimpleCell: (_cell("SimpleCell", lambda: nn.SimpleCell(3), floats(2, 3)),),
    nn.GRUCell: (_cell("GRUCell", lambda: nn.GRUCell(3), floats(2, 3)),),
    nn.MGUCell: (_cell("MGUCell", lambda: nn.MGUCell(3), floats(2, 3)),),
    nn.ConvLSTMCell: (
        _case(
            "ConvLSTMCell",
            lambda: nn.ConvLSTMCell(3, (2,)),
            (floats(2, 3, 3), floats(2, 3, 3)),
            SEQUENCE,
        ),
    ),
    recurrent.DenseParams: (
        _case("DenseParams", lambda: recurrent.DenseParams(3, use_bias=True), X),
    ),
    nn.RNN: (
        _case("RNN", lambda: nn.RNN(nn.GRUCell(3), return_carry=True), SEQUENCE),
        _case(
            "RNN-lengths",
            lambda: nn.RNN(nn.SimpleCell(3), reverse=True, keep_order=True),
            SEQUENCE,
            kwargs={"seq_lengths": jnp.array([2, 3])},
        ),
    ),
    nn.Bidirectional: (
        _case(
            "Bidirectional",
            lambda: nn.Bidirectional(nn.RNN(nn.SimpleCell(3)), nn.RNN(nn.SimpleCell(2))),
            SEQUENCE,
        ),
    ),
    module.CompactNameScope: (
        _case(
            "CompactNameScope",
            lambda: module.CompactNameScope(lambda layer, x: layer(x), lambda: nn.Dense(3)),
            X,
        ),
    ),
    named_axes.Dense: (
        _case("named_axes.Dense", lambda: named_axes.Dense(3, kernel_axes=("embed", "mlp")), X),
    ),
    named_axes.Embed: (
        _case(
            "named_axes.Embed",
            functools.partial(named_axes.Embed, 5, 4),
            tokens(2, 3),
            methods={"attend": (X,)},
        ),
    ),
    named_axes.LayerNorm: (
        _case(
            "named_axes.LayerNorm",
            lambda: named_axes.LayerNorm(use_bias=False, use_scale=False),
            X,
        ),
    ),
}

# A module to try each of these with, and the reason.
EXCLUDED: dict[type[nn.Module], tuple[tp.Callable[[], nn.Module], str]] = {
    nn.Module: (nn.Module, "the base of all modules: it has no __call__"),
    nn.RNNCellBase: (nn.RNNCellBase, "the base of the cells: it has no __call__"),
    fp8_ops.Fp8DotGeneralBase: (
        fp8_ops.Fp8DotGeneralBase,
        "the base of the fp8 operators: it has no __call__",
    ),
}
