"""`keras.layers.FlaxLayer`, with NNX modules through either bridge.

The layers are given their variables: where a FlaxLayer of keras 3.15.1 makes them itself, it asks
TensorFlow whether it is being traced, and so needs TensorFlow on the backend of JAX too. The last
test has the error. With tensorflow-cpu 2.21.0 installed the layer works, on either bridge alike.
"""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax
import pytest
from flax import nnx

LIBRARIES = ("keras",)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
ROWS = np.random.default_rng(0).normal(size=(16, 6)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(8, 8, 8, 3)).astype("float32")


class Net(nnx.Module):
    """A layer with batch norm and dropout, and a head."""

    def __init__(self, *, rngs):
        self.first = nnx.Linear(6, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.second = nnx.Linear(16, 3, rngs=rngs)

    def __call__(self, inputs, training=False):
        x = self.norm(self.first(inputs), use_running_average=not training)
        return self.second(self.dropout(nnx.relu(x), deterministic=not training))


class Convolutions(nnx.Module):
    """Two convolutions with batch norm between them, and a mean over the image."""

    def __init__(self, *, rngs):
        self.first = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.second = nnx.Conv(4, 2, (3, 3), rngs=rngs)

    def __call__(self, inputs, training=False):
        x = self.norm(self.first(inputs), use_running_average=not training)
        return self.second(nnx.relu(x)).mean((1, 2))


def forward(module, inputs, training):
    """What keras calls: it looks for `training` among the names of the arguments."""
    return module(inputs, training=training)


def model_of(module, example):
    """A model of keras that is one wrapped module."""
    keras.utils.set_random_seed(0)
    variables = module.init(RNGS, jnp.ones_like(example[:1]))
    layer = keras.layers.FlaxLayer(module, method=forward, variables=variables)
    return keras.Sequential([keras.Input(example.shape[1:]), layer])


def arrays(variables):
    return [np.asarray(variable) for variable in variables]


@pytest.mark.short
def test_a_model_with_dropout_and_batch_norm_trained_by_fit(both):
    def program(bridge):
        model = model_of(bridge.to_linen(Net), ROWS)
        model.compile("adam", "mse")
        before = arrays(model.variables)
        history = model.fit(ROWS, ROWS[:, :3], epochs=2, batch_size=8, verbose=0).history
        return before, history, arrays(model.variables), model.predict(ROWS, verbose=0)

    before, _, after, _ = both(program)
    # All but biases before a batch norm, which have no gradient to speak of, move.
    assert sum(not np.array_equal(old, new) for old, new in zip(before, after, strict=True)) >= 7


def test_a_network_of_convolutions_trained_by_stateless_calls(both):
    def program(bridge):
        model = model_of(bridge.to_linen(Convolutions), IMAGES)
        trainable = [variable.value for variable in model.trainable_variables]
        fixed = [variable.value for variable in model.non_trainable_variables]
        optimizer = optax.sgd(0.1)

        def loss(trainable, fixed):
            outputs, fixed = model.stateless_call(trainable, fixed, IMAGES, training=True)
            return jnp.mean(outputs**2), fixed

        @jax.jit
        def step(trainable, fixed, state):
            (value, fixed), gradients = jax.value_and_grad(loss, has_aux=True)(trainable, fixed)
            updates, state = optimizer.update(gradients, state)
            return optax.apply_updates(trainable, updates), fixed, state, value

        state, losses = optimizer.init(trainable), []
        for _ in range(3):
            trainable, fixed, state, value = step(trainable, fixed, state)
            losses.append(value)
        outputs, _ = model.stateless_call(trainable, fixed, IMAGES)
        return losses, trainable, fixed, outputs

    losses, *_ = both(program)
    assert losses[2] < losses[0]


def test_a_layer_that_makes_its_variables_wants_tensorflow(both_fail):
    both_fail(
        lambda bridge: keras.layers.FlaxLayer(bridge.to_linen(Net), method=forward)(ROWS),
        ImportError,
        "This requires the tensorflow module",
    )
