"""Training goes on after a move as if there had been none, in both directions."""

import typing as tp
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from flax import nnx

from checkpoint import models
from checkpoint.models import MODELS, Model
from nnx_wrappers import dump_linen, load_linen

# Hardly depends on the line of Python: one of two that divide the work runs it.
pytestmark = pytest.mark.shared()


@pytest.fixture(scope="module", autouse=True)
def as_written() -> Iterator[None]:
    """XLA fuses the steps of Linen and of NNX differently, on some processors with other bits."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture(scope="module", params=MODELS)
def trained(
    request: pytest.FixtureRequest, as_written: None
) -> tuple[Model, models.State, models.State, list[float]]:
    """A model after three steps in Linen, after eight, and the losses of the last five."""
    model = MODELS[request.param]
    state, _ = models.train_linen(model, models.linen_state(model), range(3))
    after, losses = models.train_linen(model, state, range(3, 8))
    return model, state, after, losses


def assert_same_bits(a: tp.Any, b: tp.Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
    ):
        assert np.array_equal(x, y), jax.tree_util.keystr(path)


def test_five_losses_are_those_that_linen_goes_on_with(trained) -> None:
    model, state, after, losses = trained
    objects = models.nnx_objects(model)
    report = load_linen(*objects[:2], state, model.rules, ema=objects[2])
    assert report.ok
    assert sum(row.by_rule for row in report.rows) == model.by_rule
    assert models.train_nnx(model, objects, range(3, 8)) == losses
    tree, _ = dump_linen(*objects[:2], model.rules, ema=objects[2], like=after)
    assert_same_bits(tree.params, after.params)
    assert_same_bits(tree.opt_state, after.opt_state)
    assert_same_bits(tree.ema_params, after.ema_params)
    assert_same_bits(tree.batch_stats, after.batch_stats)
    assert int(tree.step) == int(after.step) == 8


def test_training_goes_on_in_linen_as_in_nnx(trained) -> None:
    model, state, _, _ = trained
    objects = models.nnx_objects(model)
    models.train_nnx(model, objects, range(3))
    tree, report = dump_linen(*objects[:2], model.rules, ema=objects[2], like=state)
    assert report.ok
    losses = models.train_nnx(model, objects, range(3, 8))
    assert models.train_linen(model, tree, range(3, 8))[1] == losses


def test_there_and_back_is_the_same_state(trained) -> None:
    model, state, _, _ = trained
    objects = models.nnx_objects(model)
    load_linen(*objects[:2], state, model.rules, ema=objects[2])
    tree, _ = dump_linen(*objects[:2], model.rules, ema=objects[2], like=state)
    assert_same_bits(tree, state)


def test_what_is_dumped_without_a_tree_to_follow_is_loaded_again(trained) -> None:
    model, state, _, _ = trained
    objects = models.nnx_objects(model)
    load_linen(*objects[:2], state, model.rules, ema=objects[2])
    tree, _ = dump_linen(*objects[:2], model.rules, ema=objects[2])
    others = models.nnx_objects(model, seed=20)
    load_linen(*others[:2], tree, model.rules, ema=others[2])
    for one, other in zip(objects, others, strict=True):
        kept = nnx.Param if one is objects[2] else nnx.Not(nnx.RngState)
        assert_same_bits(nnx.state(one, kept), nnx.state(other, kept))
