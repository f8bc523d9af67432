"""NNX modules that use a class of flax.nnx which has no plain constructor and call of
its own, or which other objects have to be made for first."""

import dataclasses
import typing as tp

import jax
import jax.numpy as jnp
import optax
from flax import linen, nnx
from flax.nnx.transforms.transforms import LiftedModule


class AttentionDecoder(nnx.Module):
    """Attention whose cache is made with it."""

    def __init__(self, rngs: nnx.Rngs):
        self.attention = nnx.MultiHeadAttention(2, 4, decode=True, rngs=rngs)
        self.attention.init_cache((1, 3, 4))

    def __call__(self, x):
        return self.attention(x)


def rnn(cell: type[nnx.RNNCellBase], rngs: nnx.Rngs, **kwargs: tp.Any) -> nnx.RNN:
    """An RNN that owns its cell and its stream."""
    return nnx.RNN(cell(2, 3, rngs=rngs), rngs=rngs, **kwargs)


class SimpleRNN(nnx.Module):
    """A layer over a sequence, with the last carry."""

    def __init__(self, rngs: nnx.Rngs):
        self.rnn = rnn(nnx.SimpleCell, rngs, return_carry=True)

    def __call__(self, x):
        return self.rnn(x)


class ReversedLSTM(nnx.Module):
    """A layer over sequences of several lengths, from behind."""

    def __init__(self, rngs: nnx.Rngs):
        self.rnn = rnn(nnx.OptimizedLSTMCell, rngs, reverse=True, keep_order=True)

    def __call__(self, x):
        return self.rnn(x, seq_lengths=jnp.array([2]))


class BothWays(nnx.Module):
    """Bidirectional over two cells of its own."""

    def __init__(self, rngs: nnx.Rngs):
        forward, backward = rnn(nnx.SimpleCell, rngs), rnn(nnx.SimpleCell, rngs)
        self.rnn = nnx.Bidirectional(forward, backward, rngs=rngs)

    def __call__(self, x):
        return self.rnn(x)


class DecayCell(nnx.RNNCellBase):
    """A cell made by a user."""

    def __init__(self, in_features: int, hidden_features: int, rngs: nnx.Rngs):
        self.hidden = hidden_features
        self.dense = nnx.Linear(in_features, hidden_features, rngs=rngs)
        self.decay = nnx.Param(jnp.full((hidden_features,), 0.5))

    def __call__(self, carry, inputs):
        carry = self.decay * carry + self.dense(inputs)
        return carry, carry

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        return jnp.zeros((*input_shape[:-1], self.hidden))

    @property
    def num_feature_axes(self):
        return 1


class DecayRNN(nnx.Module):
    """RNN over a cell made by a user."""

    def __init__(self, rngs: nnx.Rngs):
        self.rnn = rnn(DecayCell, rngs)

    def __call__(self, x):
        return self.rnn(x)


class Chain(nnx.Module):
    """Sequential of layers with and without state, one of them random."""

    def __init__(self, rngs: nnx.Rngs):
        norm = nnx.BatchNorm(3, rngs=rngs)
        dropout = nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.Sequential(nnx.Linear(2, 3, rngs=rngs), norm, nnx.relu, dropout)

    def __call__(self, x):
        return self.layers(x)


class Named(nnx.Dict):
    """A Dict of modules, Variables and functions that is the module itself."""

    def __init__(self, rngs: nnx.Rngs):
        layer = nnx.Linear(2, 3, rngs=rngs)
        super().__init__(layer=layer, scale=nnx.Param(jnp.ones(3)), then=nnx.relu)

    def __call__(self, x):
        return self["then"](self["layer"](x)) * self["scale"]


class Stacked(nnx.Module):
    """A List of layers as an attribute."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.List(nnx.Linear(2, 2, rngs=rngs) for _ in range(2))
        self.layers.append(nnx.BatchStat(jnp.zeros(2)))

    def __call__(self, x):
        y = self.layers[1](self.layers[0](x))
        self.layers[2][...] += y.sum(0)
        return y


class Normed(nnx.Module):
    """WeightNorm or SpectralNorm around a layer."""

    def __init__(self, norm: type[nnx.Module], rngs: nnx.Rngs, **kwargs: tp.Any):
        self.norm = norm(nnx.Linear(2, 3, rngs=rngs), rngs=rngs, **kwargs)

    def __call__(self, x):
        return self.norm(x)


class Adapted(nnx.Module):
    """LoRA on a base module."""

    def __init__(self, rngs: nnx.Rngs):
        base = nnx.Linear(2, 3, rngs=rngs)
        init = nnx.initializers.normal()
        self.lora = nnx.LoRA(2, 2, 3, base_module=base, b_initializer=init, rngs=rngs)

    def __call__(self, x):
        return self.lora(x)


class Streams(nnx.Module):
    """Rngs and one RngStream as attributes, drawn from at each call."""

    def __init__(self, rngs: nnx.Rngs):
        self.rngs = rngs.fork()
        self.stream = rngs["dropout"].fork()

    def __call__(self, x):
        noise = jax.random.normal(self.stream(), x.shape)
        return x + noise, self.rngs.dropout(), self.stream.count[...]


class Probed(nnx.Module):
    """What Module itself gives to its subclasses: sow, perturb, and attributes of modes."""

    def __init__(self, rngs: nnx.Rngs):
        self.layer = nnx.Linear(2, 2, rngs=rngs)
        self.deterministic = False

    def __call__(self, x):
        y = self.perturb("probe", self.layer(x))
        self.sow(nnx.Intermediate, "seen", y)
        return -y if self.deterministic else y

    def evaluate(self, x):
        """The call in evaluation mode."""
        self.eval()
        return self(x)


class PlainTree(nnx.Pytree):
    """State in an nnx.Pytree that is no Module."""

    def __init__(self, rngs: nnx.Rngs):
        self.shift = nnx.Param(rngs.params.normal((2,)))
        self.table = nnx.data(jnp.arange(2.0))


class PlainObject(nnx.Object):
    """State in an object that is no JAX pytree either."""

    def __init__(self, rngs: nnx.Rngs):
        self.shift = nnx.Param(rngs.params.normal((2,)))


class Holder(nnx.Module):
    """A Module around another kind of node."""

    def __init__(self, node: type[tp.Any], rngs: nnx.Rngs):
        self.node = node(rngs)
        self.calls = nnx.BatchStat(jnp.array(0))

    def __call__(self, x):
        self.calls[...] += 1
        return x + self.node.shift + getattr(self.node, "table", 0.0)


class BridgeModule(nnx.bridge.Module):
    """A module of flax.nnx.bridge: fields, and attributes made after them."""

    features: int
    rngs: dataclasses.InitVar[nnx.Rngs]

    def __post_init__(self, rngs):
        self.kernel = nnx.Param(rngs.params.normal((2, self.features)))
        self.calls = nnx.BatchStat(jnp.array(0))

    def __call__(self, x):
        self.calls[...] += 1
        return x @ self.kernel


class ScopeUser(nnx.Module):
    """A Scope of flax.nnx.bridge that keys are drawn from."""

    def __init__(self, rngs: nnx.Rngs):
        self.scope = nnx.bridge.Scope(rngs.fork(), mutable=False)

    def __call__(self, x):
        return x + self.scope.copy().rngs.dropout.normal(x.shape)


class LinenInside(nnx.Module):
    """A Linen layer that is initialized with the module."""

    def __init__(self, rngs: nnx.Rngs):
        layer = nnx.bridge.ToNNX(linen.Dense(3), rngs=rngs)
        self.layer = nnx.bridge.lazy_init(layer, jnp.ones((1, 2)))

    def __call__(self, x):
        return self.layer(x)


class Doubled(LiftedModule):
    """A LiftedModule that calls its submodule twice."""

    def __init__(self, rngs: nnx.Rngs):
        self.inner = nnx.Linear(2, 2, rngs=rngs)

    @property
    def _submodule(self):
        return self.inner

    def _call(self, accessor, *args):
        method = accessor(self.inner)
        return method(method(*args))


class Count(nnx.Metric):
    """A metric made by a user."""

    def __init__(self):
        self.count = nnx.metrics.MetricState(jnp.array(0))

    def update(self, *, values, **kwargs):
        self.count[...] += values.size

    def compute(self):
        return self.count[...]

    def reset(self):
        self.count[...] = jnp.array(0)


def _metrics() -> nnx.MultiMetric:
    return nnx.MultiMetric(loss=nnx.metrics.Average("values"), spread=nnx.metrics.Welford())


class Measured(nnx.Module):
    """A model that keeps metrics of its outputs."""

    def __init__(self, rngs: nnx.Rngs):
        self.layer = nnx.Linear(2, 3, rngs=rngs)
        self.metrics = _metrics()
        self.accuracy = nnx.metrics.Accuracy()

    def __call__(self, x):
        y = self.layer(x)
        self.metrics.update(values=y)
        self.accuracy.update(logits=y, labels=jnp.array([0]))
        return y, self.metrics.compute(), self.accuracy.compute()


class Averaged(nnx.Module):
    """A model and the moving average of its parameters."""

    def __init__(self, rngs: nnx.Rngs):
        self.layer = nnx.Linear(2, 3, rngs=rngs)
        self.ema = nnx.EMA(self.layer, 0.5)

    def __call__(self, x):
        self.layer.bias[...] += 1.0
        self.ema.update(self.layer)
        return self.ema.apply_to(self.layer)(x)


def _loss(model: nnx.Module, x: jax.Array) -> jax.Array:
    return (model(x) ** 2).sum()


class Trained(nnx.Module):
    """A model with its Optimizer: a call is a step."""

    def __init__(self, tx: optax.GradientTransformation, rngs: nnx.Rngs):
        self.layer = nnx.Linear(2, 3, rngs=rngs)
        self.optimizer = nnx.Optimizer(self.layer, tx, wrt=nnx.Param)

    def __call__(self, x):
        grads = nnx.grad(_loss)(self.layer, x)
        self.optimizer.update(self.layer, grads)
        return self.layer(x)


class TrainedTogether(nnx.Module):
    """Model and optimizer in one object: a call is a step."""

    def __init__(self, tx: optax.GradientTransformation, rngs: nnx.Rngs):
        self.training = nnx.ModelAndOptimizer(nnx.Linear(2, 3, rngs=rngs), tx)

    def __call__(self, x):
        self.training.update(nnx.grad(_loss)(self.training.model, x))
        return self.training.model(x)


class Metrics(nnx.MultiMetric):
    """A MultiMetric that makes its metrics."""

    def __init__(self):
        super().__init__(loss=nnx.metrics.Average("values"), spread=nnx.metrics.Welford())


if hasattr(nnx, "EMA"):

    class OwnAverage(nnx.EMA):
        """A moving average of a model that it makes."""

        def __init__(self, rngs: nnx.Rngs):
            super().__init__(nnx.Linear(2, 3, rngs=rngs), 0.5)


class OwnOptimizer(nnx.Optimizer):
    """An optimizer for a model that it makes."""

    def __init__(self, rngs: nnx.Rngs):
        super().__init__(nnx.Linear(2, 3, rngs=rngs), optax.adam(0.1), wrt=nnx.Param)


class OwnTraining(nnx.ModelAndOptimizer):
    """A model with its optimizer."""

    def __init__(self, rngs: nnx.Rngs):
        super().__init__(nnx.Linear(2, 3, rngs=rngs), optax.sgd(0.1))


class OwnLinen(nnx.bridge.ToNNX):
    """Flax's ToNNX as the class itself."""

    def __init__(self, rngs: nnx.Rngs):
        super().__init__(linen.Dense(3), rngs=rngs)
        self.lazy_init(jnp.ones((1, 2)))
