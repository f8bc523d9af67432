"""Tables, displays, optimizers and Keras around both wrappers, against Flax's bridge."""

import contextlib
import importlib
import io
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import treescope
from flax import linen as nn
from flax import nnx
from flax.training import train_state

from support.oracle import assert_same, assert_same_module, ours, state_of, theirs

X = jnp.arange(12.0).reshape(3, 4) / 12
Y = jnp.arange(6.0).reshape(3, 2)
KEYS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
SIDES = [ours, theirs]


class Net(nnx.Module):
    """Parameters, statistics and dropout; `training` as Keras names it."""

    def __init__(self, *, rngs):
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.last = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, inputs, training=False):
        x = self.norm(self.first(inputs), use_running_average=not training)
        return self.last(self.drop(nnx.relu(x), deterministic=not training))


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=False, name="norm")(nn.Dense(8, name="first")(x))
        return nn.Dense(2, name="last")(nn.relu(x))


class Around(nnx.Module):
    """An NNX module that holds a Linen one."""

    def __init__(self, bridge, *, rngs):
        self.inside = bridge.ToNNX(LinenNet(), rngs=rngs)
        self.head = nnx.Linear(2, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.inside(x, mutable=["batch_stats"]))


def alone(bridge):
    return bridge.lazy_init(bridge.ToNNX(LinenNet(), rngs=nnx.Rngs(0)), X)


def held(bridge):
    return bridge.lazy_init(Around(bridge, rngs=nnx.Rngs(0)), X)


def call(model, x):
    return model(x, mutable=["batch_stats"]) if hasattr(model, "to_nnx__module") else model(x)


def normalised(text):
    """A rendering without addresses, and with one name for the module of both sides' classes."""
    text = re.sub(r"0x[0-9a-f]+", "0x", text)
    return re.sub(r"(flax\.nnx\.bridge\.wrappers|nnx_wrappers\._to_\w+)", "bridge", text)


@pytest.fixture(params=[alone, held], ids=["alone", "held"])
def make(request):
    return request.param


# --- tables and displays ---------------------------------------------------------------


def tables(bridge):
    inner = bridge.ToLinen(Net, name="net")

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(bridge.ToLinen(Net, name="net")(x))

    options = {"console_kwargs": {"width": 200, "force_terminal": False}}
    return [
        nn.tabulate(inner, KEYS, **options)(X),
        inner.tabulate(KEYS, X, **options),
        Outer().tabulate(KEYS, X, compute_flops=True, compute_vjp_flops=True, **options),
    ]


def test_linen_s_tables_of_an_nnx_class_are_the_same():
    mine, reference = (list(map(normalised, tables(bridge))) for bridge in SIDES)
    assert mine == reference
    assert all("float32[4,8]" in text for text in mine)


@pytest.mark.parametrize("streams", [(), ("2 (12 B)",)], ids=["released", "live"])
@pytest.mark.parametrize("name", ["", "inside"])
def test_nnx_tabulates_a_linen_module(name, streams):
    """Flax's bridge takes what the table writes into a module for a variable, and asks for
    the streams by a method that the table has replaced by a jitted one."""
    model = alone(ours) if not name else held(ours)
    if not streams:
        (model if not name else model.inside).release_rngs()
    before = state_of(model)
    method = {"mutable": ["batch_stats"]} if not name else {}
    options = {"console_kwargs": {"width": 200, "force_terminal": False}}
    text = nnx.tabulate(model, X, **method, **options)
    rows = [[cell.strip() for cell in line.split("│")] for line in text.splitlines()]
    assert [r[3:-1] for r in rows if r[1:3] == [name, "ToNNX"]] == [
        ["- float32[3,4]", "float32[3,2]", "16 (64 B)", "74 (296 B)", *streams]
    ]
    assert_same(state_of(model), before)


def shown(model):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        nnx.display(model)
    return normalised(printed.getvalue())


def test_display_without_treescope_prints_the_same(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "treescope", None)  # import treescope fails
    mine, reference = shown(make(ours)), shown(make(theirs))
    assert mine == reference
    assert "ToNNX(" in mine
    assert "kernel" in mine


def test_display_of_an_nnx_class_in_linen_prints_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "treescope", None)
    models = [bridge.ToLinen(Net) for bridge in SIDES]
    mine, reference = (shown((m, m.init(KEYS, X))) for m in models)
    # Two fields differ: one is ours alone, the other has a function of each side's.
    own = r",?\s*nnx_module_augment_fn = None|metadata_fn = .*"
    assert re.sub(own, "", mine) == re.sub(own, "", reference)
    assert "nnx_class" in mine


# Treescope looks at every name of numpy.
@pytest.mark.filterwarnings("ignore:The chararray class is deprecated:DeprecationWarning")
def test_treescope_renders_the_same(make):
    mine, reference = (normalised(treescope.render_to_text(make(bridge))) for bridge in SIDES)
    assert mine == reference
    assert "ToNNX(" in mine
    html = treescope.render_to_html(make(ours), compressed=False)
    assert "ToNNX" in html
    assert "kernel" in html


# --- optimizers --------------------------------------------------------------------------


def train(model, optimizer, steps=3):
    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            return jnp.mean((call(model, X) - Y) ** 2)

        value, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return value

    return [step(model, optimizer) for _ in range(steps)]


def test_steps_of_an_nnx_optimizer_are_the_same(make):
    results = []
    for bridge in SIDES:
        model = make(bridge)
        optimizer = nnx.Optimizer(model, optax.adamw(0.1), wrt=nnx.Param)
        results.append((train(model, optimizer), model, optimizer))
    (losses, mine, optimizer), (expected, reference, reference_optimizer) = results
    assert_same(losses, expected)
    assert losses[0] > losses[-1]
    assert_same_module(mine, reference)
    assert_same_module(optimizer, reference_optimizer)


class State(train_state.TrainState):
    batch_stats: dict


def test_steps_of_a_train_state_are_the_same():
    def run(bridge):
        model = bridge.ToLinen(Net)
        variables = model.init(KEYS, X)
        state = State.create(apply_fn=model.apply, tx=optax.adam(0.1), **variables)

        @jax.jit
        def step(state, key):
            def loss(params):
                out, updates = state.apply_fn(
                    {"params": params, "batch_stats": state.batch_stats},
                    X,
                    training=True,
                    rngs={"dropout": key},
                    mutable=["batch_stats"],
                )
                return jnp.mean((out - Y) ** 2), updates

            (value, updates), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
            return state.apply_gradients(grads=grads, **updates), value

        losses = []
        for i in range(3):
            state, value = step(state, jax.random.key(i))
            losses.append(value)
        return losses, state.params, state.batch_stats, state.opt_state, state.step

    mine, reference = run(ours), run(theirs)
    assert_same(mine, reference)
    assert len(set(map(float, mine[0]))) == 3


def label(path, _):
    """Frozen where a path names the first layer, else trained."""
    return "frozen" if any("first" in str(part) for part in path) else "trained"


def transform(labels):
    return optax.multi_transform({"frozen": optax.set_to_zero(), "trained": optax.sgd(0.1)}, labels)


def test_multi_transform_by_path_in_an_nnx_optimizer_is_the_same(make):
    results = []
    for bridge in SIDES:
        model = make(bridge)
        before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        labels = nnx.map_state(label, nnx.state(model, nnx.Param))
        optimizer = nnx.Optimizer(model, transform(labels), wrt=nnx.Param)
        train(model, optimizer)
        results.append((before, nnx.to_pure_dict(nnx.state(model, nnx.Param)), model))
    (before, after, mine), (_, _, reference) = results
    assert_same_module(mine, reference)
    layers, old = (tree.get("inside", tree) for tree in (after, before))
    assert_same(layers["first"], old["first"])
    assert not np.array_equal(layers["last"]["kernel"], old["last"]["kernel"])


def test_multi_transform_by_path_on_linen_variables_is_the_same():
    def run(bridge):
        model = bridge.ToLinen(Net)
        variables = model.init(KEYS, X)
        params, rest = variables["params"], {"batch_stats": variables["batch_stats"]}
        tx = transform(jax.tree_util.tree_map_with_path(label, params))

        def loss(params):
            return jnp.mean((model.apply({"params": params, **rest}, X) - Y) ** 2)

        state, new = tx.init(params), params
        for _ in range(2):
            updates, state = tx.update(jax.grad(loss)(new), state, new)
            new = optax.apply_updates(new, updates)
        return params, new

    (before, mine), (_, reference) = run(ours), run(theirs)
    assert_same(mine, reference)
    assert_same(mine["first"], before["first"])
    assert not np.array_equal(mine["last"]["kernel"], before["last"]["kernel"])


# --- Keras -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Keras on JAX; it reads and writes its settings where it is imported first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        patch.setenv("KERAS_HOME", str(tmp_path_factory.mktemp("keras")))
        module = importlib.import_module("keras")
    assert module.backend.backend() == "jax"
    return module


@pytest.fixture
def _without_tensorflow(keras, monkeypatch):
    """A layer that makes its variables asks TensorFlow whether one of its functions is traced."""
    from keras.src.utils import jax_layer

    monkeypatch.setattr(jax_layer, "tf", types.SimpleNamespace(inside_function=lambda: False))


def call_net(module, inputs, training):
    return module(inputs, training=training)


def fit(keras, bridge, given, method):
    keras.utils.set_random_seed(0)
    variables = theirs.ToLinen(Net).init(KEYS, X) if given else None  # Keras donates them
    layer = keras.layers.FlaxLayer(bridge.ToLinen(Net), variables=variables, method=method)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile(optimizer="sgd", loss="mse")
    before = [np.array(w.value) for w in layer.weights]
    history = model.fit(X, Y, epochs=3, batch_size=3, shuffle=False, verbose=0)
    after = [np.array(w.value) for w in layer.weights]
    state = [np.array(w.value) for w in layer.non_trainable_weights]
    return before, history.history["loss"], after, state, model.predict(X, verbose=0)


@pytest.mark.usefixtures("_without_tensorflow")
@pytest.mark.parametrize("given", [False, True], ids=["own variables", "given variables"])
def test_a_keras_layer_around_an_nnx_class_trains_alike(keras, given):
    """Parameters, batch statistics and dropout keys (keras issue 21364)."""
    mine, reference = (fit(keras, bridge, given, call_net) for bridge in SIDES)
    assert_same(mine, reference)
    before, losses, after, state, _ = mine
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(changed) >= 7  # all but the bias before the normalization, statistics included
    assert any(not np.array_equal(s, b) for s in state for b in before if s.shape == b.shape)
    assert len(set(losses)) == 3


@pytest.mark.usefixtures("_without_tensorflow")
def test_a_keras_layer_without_a_method_evaluates_alike(keras):
    mine, reference = (fit(keras, bridge, False, None) for bridge in SIDES)
    assert_same(mine, reference)
    assert mine[1][0] > mine[1][-1]


@pytest.mark.usefixtures("_without_tensorflow")
def test_an_instance_in_a_keras_layer_is_refused_with_what_to_write(keras):
    """What the user of keras issue 21364 wrote; Flax complains about `rngs` in the first call."""
    with pytest.raises(TypeError, match=r"expected an NNX class, got an instance of Net"):
        keras.layers.FlaxLayer(ours.ToLinen(Net(rngs=nnx.Rngs(0))))
