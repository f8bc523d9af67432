"""The bridge on real data: 1,797 handwritten digits, learned both ways round.

1. A Linen network whose convolutions are an NNX module (`ToLinen`), trained with
   Linen's tools: TrainState and optax.
2. An NNX network whose convolutions are a Linen module with batch norm and dropout
   (`ToNNX`), trained with NNX's tools: nnx.Optimizer and nnx.jit.
3. The weights of the second network as Linen variables, and back again. Predictions
   must stay equal, bit for bit.

Run it with `make demo`. It ends with status 1 if a check fails.
"""

import sys
import time
import typing as tp
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState
from flax.traverse_util import flatten_dict
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nnx_wrappers

EPOCHS = 40
BATCH_SIZE = 64
HELD_OUT = 360
STEPS = (1797 - HELD_OUT) // BATCH_SIZE  # an epoch
TARGET = 0.97
KEPT = (nnx.Param, nnx.BatchStat)  # what a model has learned; its RNG streams left out

console = Console()


class CheckFailed(Exception):
    """A result is not what this program promises."""


class Data(tp.NamedTuple):
    """Images of shape (n, 8, 8, 1) from 0 to 1, and their digits."""

    images: np.ndarray
    labels: np.ndarray


def load_data() -> tuple[Data, Data]:
    """The images to learn from and the held-out ones; always the same split."""
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[..., np.newaxis]
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=0
    )
    return Data(train_x, train_y), Data(test_x, test_y)


def batches(data: Data, epoch: int) -> Iterator[Data]:
    """One epoch of shuffled batches, each image moved by up to one pixel."""
    rng = np.random.default_rng(epoch)
    padded = np.pad(data.images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    order = rng.permutation(len(data.labels))
    for chosen in order[: STEPS * BATCH_SIZE].reshape(STEPS, BATCH_SIZE):
        down, right = rng.integers(0, 3, size=2)
        images = padded[chosen, down : down + 8, right : right + 8]
        yield Data(images, data.labels[chosen])


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean loss of a batch."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def learning_rate() -> optax.Schedule:
    """From 3e-3 down to 0 over the whole training."""
    return optax.cosine_decay_schedule(3e-3, EPOCHS * STEPS)


def accuracy(logits: jax.Array, labels: np.ndarray) -> float:
    """The share of images whose largest logit is their digit."""
    return float(np.mean(np.argmax(np.asarray(logits), axis=-1) == labels))


# 1. A Linen network that holds an NNX module.


class Tower(nnx.Module):
    """Two convolutions, written in NNX."""

    def __init__(self, features: int, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, features, (3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(features, 2 * features, (3, 3), rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.conv1(images)), (2, 2), strides=(2, 2))
        return nnx.relu(self.conv2(x))


class LinenNet(nn.Module):
    """A Linen classifier. `to_linen` makes the NNX class one of its submodules."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx_wrappers.to_linen(Tower, features=32, name="tower")(images)
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(128, name="hidden")(x))
        return nn.Dense(10, name="logits")(x)


def train_linen(train: Data, test: Data) -> TrainState:
    """Trains `LinenNet` as any Linen module: init, TrainState, apply."""
    model = LinenNet()
    variables = model.init(jax.random.key(0), train.images[:1])
    state = TrainState.create(
        apply_fn=model.apply, params=variables["params"], tx=optax.adam(learning_rate())
    )

    @jax.jit
    def step(state: TrainState, batch: Data) -> tuple[TrainState, jax.Array]:
        def loss_of(params: tp.Any) -> jax.Array:
            return cross_entropy(state.apply_fn({"params": params}, batch.images), batch.labels)

        loss, grads = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=grads), loss

    @jax.jit
    def predict(state: TrainState, images: jax.Array) -> jax.Array:
        return state.apply_fn({"params": state.params}, images)

    def epoch(number: int) -> float:
        nonlocal state
        for batch in batches(train, number):
            state, loss = step(state, batch)
        return float(loss)

    def held_out() -> float:
        return accuracy(predict(state, test.images), test.labels)

    run_epochs("Linen network, NNX inside", epoch, held_out)
    return state


# 2. An NNX network that holds a Linen module.


class Block(nn.Module):
    """A convolution with batch norm and dropout, written in Linen."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Conv(self.features, (3, 3), use_bias=False, name="conv")(x)
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
        x = nn.max_pool(nn.relu(x), (2, 2), strides=(2, 2))
        return nn.Dropout(0.2, deterministic=not train)(x)


class NNXNet(nnx.Module):
    """An NNX classifier. `ToNNX` makes the Linen modules own their variables."""

    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.first = nnx_wrappers.ToNNX(Block(32), rngs=rngs)
        self.second = nnx_wrappers.ToNNX(Block(64), rngs=rngs)
        self.logits = nnx.Linear(2 * 2 * 64, 10, rngs=rngs)

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        x = self.second(self.first(images, train), train)
        return self.logits(x.reshape(len(x), -1))


def make_nnx(seed: int) -> NNXNet:
    """A new network. Linen makes variables from inputs, hence `lazy_init`."""
    model = NNXNet(rngs=nnx.Rngs(params=seed, dropout=seed + 1))
    return nnx_wrappers.lazy_init(model, jnp.ones((1, 8, 8, 1)))


def train_nnx(train: Data, test: Data) -> NNXNet:
    """Trains `NNXNet` as any NNX module: nnx.Optimizer, nnx.jit, in-place updates."""
    model = make_nnx(seed=0)
    optimizer = nnx.Optimizer(model, optax.adam(learning_rate()), wrt=nnx.Param)

    @nnx.jit
    def step(model: NNXNet, optimizer: nnx.Optimizer, batch: Data) -> jax.Array:
        def loss_of(model: NNXNet) -> jax.Array:
            return cross_entropy(model(batch.images, train=True), batch.labels)

        loss, grads = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, grads)
        return loss

    @nnx.jit
    def predict(model: NNXNet, images: jax.Array) -> jax.Array:
        return model(images)

    def epoch(number: int) -> float:
        for batch in batches(train, number):
            loss = step(model, optimizer, batch)
        return float(loss)

    def held_out() -> float:
        return accuracy(predict(model, test.images), test.labels)

    stream = model.first.to_nnx__rngs.dropout.count
    drawn_before, mean_before = int(stream[...]), np.asarray(model.first.norm["mean"][...])
    run_epochs("NNX network, Linen inside", epoch, held_out)
    drawn = int(stream[...]) - drawn_before
    calls = EPOCHS * (STEPS + 1)  # training steps, and one held-out prediction an epoch
    check(drawn == calls, f"the dropout stream advanced: {drawn} keys in {calls} calls")
    moved = float(np.abs(np.asarray(model.first.norm["mean"][...]) - mean_before).max())
    check(moved > 0, f"the batch statistics were updated: a mean moved by {moved:.3f}")
    return model


# 3. Moving weights.


def move_weights(model: NNXNet, images: np.ndarray) -> dict[str, tp.Any]:
    """Takes the weights to Linen and back; returns them as Linen variables."""
    expected = model(images)
    variables = nnx_wrappers.nnx_attrs_to_linen_vars(nnx.state(model, KEPT))

    block = {name: variables[name]["first"] for name in ("params", "batch_stats")}
    check_equal(
        model.first(images, train=False),
        Block(32).apply(block, images, train=False),
        "the Linen block, applied by Linen itself",
    )
    check_equal(
        nnx_wrappers.to_linen(NNXNet).apply(variables, images),
        expected,
        "the NNX network, used as a Linen module",
    )
    other = make_nnx(seed=7)
    check(
        not np.array_equal(other(images), expected),
        "a network with other weights predicts something else",
    )
    nnx.update(other, nnx.State(nnx_wrappers.linen_vars_to_nnx_attrs(variables)))
    check_equal(other(images), expected, "another NNX network, given the weights back")
    return variables


# What is shown, and what is checked.


def run_epochs(
    title: str, epoch: tp.Callable[[int], float], held_out: tp.Callable[[], float]
) -> None:
    """Trains with a progress bar (on a terminal) or a line every five epochs."""
    console.rule(title)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling", total=EPOCHS)
        for number in range(EPOCHS):
            loss, share = epoch(number), held_out()
            line = f"loss {loss:.4f}  held-out accuracy {share:.2%}"
            progress.update(task, advance=1, description=line)
            if not console.is_terminal and (number + 1) % 5 == 0:
                console.print(f"epoch {number + 1:2}/{EPOCHS}  {line}")
    console.print(f"trained in {time.monotonic() - started:.0f} s")
    check(share >= TARGET, f"held-out accuracy {share:.2%} is at least {TARGET:.0%}")


def check(passed: bool, sentence: str) -> None:
    """Prints a check that passed; raises one that did not."""
    if not passed:
        raise CheckFailed(sentence)
    console.print(f"[green]ok[/green]  {sentence}", highlight=False)


def check_equal(left: jax.Array, right: jax.Array, sentence: str) -> None:
    """Checks two arrays bit for bit."""
    same = np.asarray(left).tobytes() == np.asarray(right).tobytes()
    check(
        same and left.shape == right.shape, f"{sentence}: {left.size:,} values equal, bit for bit"
    )


def module_table(title: str, variables: Mapping[str, tp.Any], kinds: Mapping[str, str]) -> Table:
    """One row a variable. `kinds` says of which system each submodule is."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("path", overflow="fold")
    for name in ("kind", "collection", "shape", "dtype"):
        table.add_column(name)
    table.add_column("parameters", justify="right")
    total = 0
    for collection, tree in variables.items():
        for path, value in flatten_dict(tree).items():
            parameters = value.size if collection == "params" else 0
            total += parameters
            table.add_row(
                "/".join(path),
                kinds[path[0]],
                collection,
                str(value.shape),
                str(value.dtype),
                f"{parameters:,}",
            )
    table.add_section()
    table.add_row("total", "", "", "", "", f"{total:,}")
    return table


def main() -> int:
    """Runs the three parts; 1 if a check fails."""
    try:
        train, test = load_data()
        console.print(f"{len(train.labels):,} images to learn from, {len(test.labels)} held out")
        state = train_linen(train, test)
        model = train_nnx(train, test)
        console.rule("Moving weights")
        variables = move_weights(model, test.images)
    except CheckFailed as failed:
        console.print(f"[red]FAILED[/red]  This should hold but does not: {failed}.")
        return 1
    linen_kinds = {"tower": "NNX", "hidden": "Linen", "logits": "Linen"}
    nnx_kinds = {"first": "Linen", "second": "Linen", "logits": "NNX"}
    console.rule("Modules")
    console.print(
        module_table("Linen network, NNX inside", {"params": state.params}, linen_kinds),
        module_table("NNX network, Linen inside", variables, nnx_kinds),
        sep="\n",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
