"""Models that are written twice, in Linen and in NNX, and one way to train each."""

import dataclasses
import typing as tp
from collections.abc import Callable

import jax
import optax
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

DECAY = 0.9


class State(TrainState):
    batch_stats: tp.Any
    ema_params: tp.Any


class LinenCNN(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(4, (3, 3))(x)
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.Conv(3, (3, 3))(nn.relu(x))
        return nn.Dense(2)(x.mean((1, 2)))


class NNXCNN(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(2, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.second = nnx.Conv(4, 3, (3, 3), rngs=rngs)
        self.drop = nnx.Dropout(0.0, rngs=rngs)
        self.out = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.first(x)))
        return self.out(self.drop(self.second(x).mean((1, 2))))


CNN_RULES = {
    "rule": [
        {"rename": "^Conv_0/", "to": "first/"},
        {"rename": "^Conv_1/", "to": "second/"},
        {"rename": "^BatchNorm_0/", "to": "norm/"},
        {"rename": "^Dense_0/", "to": "out/"},
    ]
}


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        x = x + nn.MultiHeadDotProductAttention(2, name="attention")(nn.LayerNorm(name="norm1")(x))
        return x + nn.relu(nn.Dense(8, name="up")(x)), None


class LinenTransformer(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(8, name="embed")(x)
        layers = nn.scan(
            LinenBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=2
        )
        x, _ = layers(name="layers")(x, None)
        return nn.Dense(2, name="head")(x.mean(1))


class NNXBlock(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(8, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)
        self.up = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x))
        return x + nnx.relu(self.up(x))


class NNXTransformer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Linear(3, 8, rngs=rngs)
        self.layers = nnx.List([NNXBlock(rngs) for _ in range(2)])
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class LinenLSTM(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.RNN(nn.LSTMCell(4))(x)
        return nn.Dense(2, name="out")(x[:, -1])


class NNXLSTM(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.rnn = nnx.RNN(nnx.LSTMCell(3, 4, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(self.rnn(x)[:, -1])


LSTM_RULES = {"rule": [{"rename": "^LSTMCell_0/", "to": "rnn/cell/"}]}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model in both systems, and the rules between them."""

    linen: nn.Module
    nnx: Callable[[nnx.Rngs], nnx.Module]
    shape: tuple[int, ...]
    rules: dict[str, tp.Any] | None
    by_rule: int  # leaves of a whole state that a rule moves


MODELS = {
    "cnn": Model(LinenCNN(), NNXCNN, (4, 6, 6, 2), CNN_RULES, 34),
    "transformer": Model(LinenTransformer(), NNXTransformer, (4, 5, 3), None, 0),
    "lstm": Model(LinenLSTM(), NNXLSTM, (4, 5, 3), LSTM_RULES, 48),
}


def optimizer() -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0.0, 0.05, 4, 20)
    return optax.chain(optax.clip(0.1), optax.adamw(schedule, weight_decay=0.01))


def batch(model: Model, step: int) -> tuple[jax.Array, jax.Array]:
    x = jax.random.normal(jax.random.key(100 + step), model.shape)
    return x, jax.random.normal(jax.random.key(200 + step), (4, 2))


def linen_state(model: Model) -> State:
    variables = jax.jit(model.linen.init)(jax.random.key(0), batch(model, 0)[0])
    return State.create(
        apply_fn=model.linen.apply,
        params=variables["params"],
        tx=optimizer(),
        batch_stats=variables.get("batch_stats", {}),
        ema_params=variables["params"],
    )


def average(old: tp.Any, new: tp.Any) -> tp.Any:
    return jax.tree.map(lambda a, b: DECAY * a + (1 - DECAY) * b, old, new)


@jax.jit
def linen_step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, jax.Array]:
    def loss_of(params: tp.Any) -> tuple[jax.Array, tp.Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        out, changed = state.apply_fn(variables, x, mutable=["batch_stats"])
        return ((out - y) ** 2).mean(), changed

    (loss, changed), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    state = state.apply_gradients(grads=grads, batch_stats=changed.get("batch_stats", {}))
    return state.replace(ema_params=average(state.ema_params, state.params)), loss


@nnx.jit
def nnx_step(
    model: nnx.Module, opt: nnx.Optimizer, ema: nnx.Module, x: jax.Array, y: jax.Array
) -> jax.Array:
    def loss_of(model: tp.Any) -> jax.Array:
        return ((model(x) - y) ** 2).mean()

    loss, grads = nnx.value_and_grad(loss_of)(model)
    opt.update(model, grads)
    nnx.update(ema, average(nnx.state(ema, nnx.Param), nnx.state(model, nnx.Param)))
    return loss


def train_linen(model: Model, state: State, steps: range) -> tuple[State, list[float]]:
    losses = []
    for step in steps:
        state, loss = linen_step(state, *batch(model, step))
        losses.append(float(loss))
    return state, losses


Trained = tuple[nnx.Module, nnx.Optimizer, nnx.Module]


def nnx_objects(model: Model, seed: int = 7) -> Trained:
    made = model.nnx(nnx.Rngs(seed))
    return made, nnx.Optimizer(made, optimizer(), wrt=nnx.Param), model.nnx(nnx.Rngs(seed + 1))


def train_nnx(model: Model, objects: Trained, steps: range) -> list[float]:
    return [float(nnx_step(*objects, *batch(model, step))) for step in steps]
