"""Every class of flax.nnx that is an nnx.Pytree: how it is bridged, or why it is not."""

import functools
import typing as tp

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from flax.nnx.bridge import module as bridge_module
from flax.nnx.transforms.transforms import LiftedModule

from . import hosts
from .case import Case

x2 = jnp.linspace(-1.0, 1.0, 2).reshape(1, 2)
x4 = jnp.linspace(-1.0, 1.0, 4).reshape(1, 4)
x3x4 = jnp.linspace(-1.0, 1.0, 12).reshape(1, 3, 4)
sequence = jnp.linspace(-1.0, 1.0, 6).reshape(1, 3, 2)
carry = jnp.full((1, 3), 0.5)
image = jnp.linspace(-1.0, 1.0, 16).reshape(1, 4, 2, 2)
tokens = jnp.array([[1, 0]])


def _layer_args() -> tuple[nnx.Module, ...]:
    rngs = nnx.Rngs(0)
    return (nnx.Linear(2, 3, rngs=rngs), nnx.BatchNorm(3, rngs=rngs))


def _cell_args() -> tuple[nnx.Module, ...]:
    return (nnx.GRUCell(2, 3, rngs=nnx.Rngs(0)),)


def _normed(norm: type[nnx.Module]) -> tp.Callable[..., nnx.Module]:
    return functools.partial(hosts.Normed, norm)


_LINEAR = (
    Case(nnx.Linear, (2, 3), inputs=(x2,)),
    Case(
        nnx.Linear,
        (2, 3),
        {"use_bias": False, "dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16},
        inputs=(x2,),
        variant="bfloat16",
    ),
    Case(
        nnx.Linear,
        (2, 3),
        {"param_dtype": jnp.complex64},
        inputs=(x2,),
        variant="complex",
    ),
    Case(
        nnx.Linear,
        (2, 3),
        {"kernel_metadata": {"note": "k", "rank": 2}, "bias_metadata": {"note": "b"}},
        inputs=(x2,),
        variant="metadata",
    ),
    Case(nnx.LinearGeneral, (2, (2, 3)), inputs=(x2,)),
    Case(nnx.LinearGeneral, ((3, 4), 2), {"axis": (-2, -1)}, (x3x4,), variant="axes"),
    Case(nnx.Einsum, ("ab,bc->ac", (2, 3), (3,)), inputs=(x2,)),
    Case(nnx.Conv, (2, 3), {"kernel_size": (2,)}, inputs=(sequence,)),
    Case(
        nnx.Conv,
        (2, 4),
        {"kernel_size": (2, 2), "strides": 2, "feature_group_count": 2, "padding": "CIRCULAR"},
        inputs=(image,),
        variant="grouped",
    ),
    Case(nnx.ConvTranspose, (2, 3), {"kernel_size": (2,), "strides": 2}, inputs=(sequence,)),
    Case(nnx.Embed, (4, 2), inputs=(tokens,)),
    Case(nnx.PReLU, inputs=(x2,), skip_rng=True),
    Case(nnx.LoRA, (2, 2, 3), inputs=(x2,)),
    Case(nnx.LoRA, via=hosts.Adapted, inputs=(x2,), variant="base"),
    Case(nnx.LoRALinear, (2, 3), {"lora_rank": 2}, inputs=(x2,)),
)

_NORMS = (
    Case(nnx.BatchNorm, (2,), inputs=(x2,)),
    Case(nnx.BatchNorm, (2,), {"use_running_average": True}, inputs=(x2,), variant="eval"),
    Case(nnx.LayerNorm, (2,), inputs=(x2,)),
    Case(nnx.RMSNorm, (2,), inputs=(x2,)),
    Case(nnx.GroupNorm, (4,), {"num_groups": 2}, inputs=(x4,)),
    Case(nnx.InstanceNorm, (2,), inputs=(sequence,)),
    Case(nnx.WeightNorm, via=_normed(nnx.WeightNorm), inputs=(x2,)),
    Case(
        nnx.WeightNorm,
        via=_normed(nnx.WeightNorm),
        kwargs={"use_scale": False},
        inputs=(x2,),
        variant="scaleless",
    ),
    Case(nnx.SpectralNorm, via=_normed(nnx.SpectralNorm), inputs=(x2,)),
    Case(
        nnx.SpectralNorm,
        via=_normed(nnx.SpectralNorm),
        kwargs={"update_stats": False},
        inputs=(x2,),
        variant="eval",
    ),
)

_ATTENTION = (
    Case(nnx.MultiHeadAttention, (2, 4), {"decode": False}, (x3x4,)),
    Case(
        nnx.MultiHeadAttention,
        (2, 4),
        {"decode": False, "dropout_rate": 0.5, "keep_rngs": True, "normalize_qk": True},
        (x3x4,),
        options={"deterministic": False},
        variant="dropout",
    ),
    Case(
        nnx.MultiHeadAttention,
        (2, 4),
        {"decode": False},
        (x3x4,),
        options={"sow_weights": True},
        variant="sow",
    ),
    Case(
        nnx.MultiHeadAttention,
        via=hosts.AttentionDecoder,
        inputs=(x3x4[:, :1],),
        variant="decode",
    ),
)

_RECURRENT = (
    Case(nnx.LSTMCell, (2, 3), inputs=((carry, carry), x2)),
    Case(nnx.OptimizedLSTMCell, (2, 3), inputs=((carry, carry), x2)),
    Case(nnx.SimpleCell, (2, 3), inputs=(carry, x2)),
    Case(nnx.SimpleCell, (2, 3), {"keep_rngs": True}, inputs=(carry, x2), variant="rngs"),
    Case(nnx.GRUCell, (2, 3), inputs=(carry, x2)),
    Case(nnx.RNN, via=hosts.SimpleRNN, inputs=(sequence,)),
    Case(nnx.RNN, via=hosts.ReversedLSTM, inputs=(sequence,), variant="reversed"),
    Case(nnx.RNN, _cell_args, inputs=(sequence,), variant="instance"),
    Case(nnx.Bidirectional, via=hosts.BothWays, inputs=(sequence,)),
)

_STOCHASTIC = (
    Case(nnx.Dropout, (0.5,), inputs=(x4,)),
    Case(nnx.Dropout, (0.5,), {"deterministic": True}, inputs=(x4,), variant="eval"),
    Case(nnx.Dropout, (0.5,), {"rng_collection": "noise"}, inputs=(x4,), variant="stream"),
    Case(nnx.Rngs, (0,), {"noise": 1}, (), skip_rng=True),
    Case(nnx.Rngs, via=hosts.Streams, inputs=(x2,), variant="held"),
    Case(nnx.RngStream, (0,), {"tag": "noise"}, (), skip_rng=True),
    Case(nnx.RngStream, via=hosts.Streams, inputs=(x2,), variant="held"),
)

_CONTAINERS = (
    Case(nnx.Sequential, via=hosts.Chain, inputs=(x2,)),
    Case(nnx.Sequential, _layer_args, inputs=(x2,), skip_rng=True, variant="instance"),
    Case(nnx.List, via=hosts.Stacked, inputs=(x2,)),
    Case(nnx.Dict, via=hosts.Named, inputs=(x2,)),
)

VALUES = {"values": jnp.linspace(0.0, 1.0, 3)}
SCORES = {"logits": jnp.array([[0.1, 0.9], [0.8, 0.2]]), "labels": jnp.array([1, 1])}


def _metric(
    metric: type[nnx.Metric],
    options: tp.Mapping[str, jax.Array] = VALUES,
    args: tp.Any = (),
    kwargs: tp.Any = None,
) -> Case:
    case = Case(metric, args, kwargs or {}, (), skip_rng=True, method="update", options=options)
    return case


_TRAINING = (
    _metric(nnx.metrics.Average),
    _metric(nnx.metrics.Welford),
    _metric(nnx.metrics.Accuracy, SCORES),
    Case(nnx.MultiMetric, via=hosts.Measured, inputs=(x2,)),
    # Flax before 0.12.8 has none.
    *([Case(nnx.EMA, via=hosts.Averaged, inputs=(x2,))] if hasattr(nnx, "EMA") else []),
    Case(nnx.Optimizer, (optax.sgd(0.1),), via=hosts.Trained, inputs=(x2,)),
    Case(nnx.Optimizer, (optax.adam(0.1),), via=hosts.Trained, inputs=(x2,), variant="adam"),
    Case(nnx.ModelAndOptimizer, (optax.sgd(0.1),), via=hosts.TrainedTogether, inputs=(x2,)),
)

_BRIDGE = (
    Case(nnx.bridge.ToNNX, via=hosts.LinenInside, inputs=(x2,)),
    Case(nnx.bridge.Scope, via=hosts.ScopeUser, inputs=(x2,)),
)

# Classes that are nothing to call by themselves, each with a minimal subclass.
_SUBCLASSES = (
    Case(nnx.Module, via=hosts.Probed, inputs=(x2,), variant="subclass"),
    Case(nnx.Pytree, (hosts.PlainTree,), via=hosts.Holder, inputs=(x2,), variant="subclass"),
    Case(nnx.Object, (hosts.PlainObject,), via=hosts.Holder, inputs=(x2,), variant="subclass"),
    Case(
        nnx.Metric,
        (),
        via=hosts.Count,
        inputs=(),
        skip_rng=True,
        method="update",
        options=VALUES,
        variant="subclass",
    ),
    Case(nnx.RNNCellBase, via=hosts.DecayRNN, inputs=(sequence,), variant="subclass"),
    Case(bridge_module.Module, (3,), via=hosts.BridgeModule, inputs=(x2,), variant="subclass"),
    Case(LiftedModule, via=hosts.Doubled, inputs=(x2,), variant="subclass"),
)

_NEWER = (
    (
        Case(
            nnx.RoPE,
            (),
            {"embedding_size": 4, "max_seq_len": 3},
            (x3x4[:, :, None],),
            skip_rng=True,
        ),
    )
    if hasattr(nnx, "RoPE")
    else ()
)

CASES = (
    *_LINEAR,
    *_NORMS,
    *_ATTENTION,
    *_RECURRENT,
    *_STOCHASTIC,
    *_CONTAINERS,
    *_TRAINING,
    *_BRIDGE,
    *_SUBCLASSES,
    *_NEWER,
)

# Why a class cannot be bridged by itself; its subclasses are.
EXCLUDED: dict[type, str] = {
    nnx.Module: "the base of all modules: it has no call",
    nnx.Pytree: "the base of all nodes: it has no call",
    nnx.Object: "the base of nodes that are no pytrees: it has no call",
    nnx.Metric: "abstract: its constructor raises",
    nnx.RNNCellBase: "abstract: its call raises",
    bridge_module.Module: "the base of bridge modules: it has no call",
    LiftedModule: "abstract: it has no submodule",
}
