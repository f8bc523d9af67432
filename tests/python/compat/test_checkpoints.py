"""What is saved from either side's wrappers is restored by the other's, bit for bit."""

import multiprocessing
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn
from flax import nnx, serialization

from support.oracle import assert_same, assert_same_module, ours, theirs

X = jnp.arange(12.0).reshape(3, 4) / 12
SIDES = {"ours": ours, "theirs": theirs}


class Net(nnx.Module):
    def __init__(self, *, rngs):
        kernel = nnx.initializers.lecun_normal()(rngs.params(), (4, 4))
        self.boxed = nnx.Param(kernel, note="mine")
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x):
        return self.norm(x @ self.boxed[...])


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(4)(x))


def linen_variables(bridge, seed=0):
    """The model, and variables that have run, so that each collection holds other numbers."""
    model = bridge.ToLinen(Net)
    variables = model.init(jax.random.key(seed), X)
    _, updates = model.apply(variables, X, mutable=["batch_stats"])
    return model, {**variables, **updates}


def nnx_model(bridge, seed=0):
    model = bridge.lazy_init(bridge.ToNNX(LinenNet(), rngs=nnx.Rngs(seed)), X)
    model(X, mutable=["batch_stats"])
    return model


@pytest.fixture(params=[("ours", "theirs"), ("theirs", "ours"), ("ours", "ours")], ids="-".join)
def sides(request):
    """Who saves and who restores."""
    return [SIDES[name] for name in request.param]


# --- flax.serialization --------------------------------------------------------------------


def test_linen_variables_go_through_bytes(sides):
    _, saved = linen_variables(sides[0])
    model, target = linen_variables(sides[1], seed=1)
    assert serialization.to_bytes(saved) == serialization.to_bytes(linen_variables(theirs)[1])
    restored = serialization.from_bytes(target, serialization.to_bytes(saved))
    restored = jax.tree.map(jnp.asarray, restored)  # it gives NumPy arrays, which are read-only
    _, expected = linen_variables(sides[1])
    assert_same(restored, expected)
    assert type(restored["params"]["boxed"]) is sides[1].NNXMeta
    assert_same(model.apply(restored, X), model.apply(expected, X))


def test_a_box_goes_through_a_state_dict(sides):
    box, target = (
        bridge.NNXMeta(nnx.Param, value, {"note": "mine"})
        for bridge, value in zip(sides, (jnp.arange(3.0), jnp.zeros(3)), strict=True)
    )
    state = serialization.to_state_dict(box)
    assert_same(state, {"value": jnp.arange(3.0)})
    restored = serialization.from_state_dict(target, state)
    assert type(restored) is sides[1].NNXMeta
    assert restored.var_type is nnx.Param
    assert restored.metadata == {"note": "mine"}
    assert_same(restored.value, jnp.arange(3.0))


def test_nnx_state_goes_through_bytes(sides):
    saved, target = nnx_model(sides[0]), nnx_model(sides[1], seed=1)
    pure = nnx.to_pure_dict(nnx.state(saved, nnx.Not(nnx.RngState)))
    data = serialization.to_bytes(pure)
    state = nnx.state(target, nnx.Not(nnx.RngState))
    restored = serialization.from_bytes(nnx.to_pure_dict(state), data)
    nnx.replace_by_pure_dict(state, jax.tree.map(jnp.asarray, restored))
    nnx.update(target, state)
    assert_same(nnx.to_pure_dict(nnx.state(target, nnx.Not(nnx.RngState))), pure)
    mutable = ["batch_stats"]
    assert_same(target(X, mutable=mutable), saved(X, mutable=mutable))


# --- Orbax ---------------------------------------------------------------------------------


def abstract(tree):
    return jax.tree.map(ocp.utils.to_shape_dtype_struct, tree)


def test_linen_variables_go_through_orbax(sides, tmp_path):
    _, saved = linen_variables(sides[0])
    model, target = linen_variables(sides[1], seed=1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "variables", saved)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "variables", abstract(target))
    assert type(restored["params"]["boxed"]) is sides[1].NNXMeta
    _, expected = linen_variables(sides[1])
    assert_same(restored, expected)
    assert_same(model.apply(restored, X), model.apply(expected, X))


def test_nnx_state_goes_through_orbax(sides, tmp_path):
    saved, target = nnx_model(sides[0]), nnx_model(sides[1], seed=1)
    assert not np.array_equal(saved.Dense_0["kernel"], target.Dense_0["kernel"])
    keep = nnx.Not(nnx.RngState)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(saved, keep))
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "state", abstract(nnx.state(target, keep)))
    nnx.update(target, restored)
    expected = nnx_model(sides[1])
    assert_same(nnx.to_pure_dict(nnx.state(target, keep)), nnx.to_pure_dict(nnx.state(saved, keep)))
    nnx.update(target, nnx.state(expected, nnx.RngState))
    assert_same_module(target, expected)
    assert_same(target(X, mutable=["batch_stats"]), saved(X, mutable=["batch_stats"]))


@pytest.fixture
def saved_folder(tmp_path):
    """A checkpoint of `linen_variables`, in a folder."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "variables", linen_variables(ours)[1])
    return tmp_path / "variables"


def refuse_half_written(folder):
    """Damages a checkpoint, and fails to restore it."""
    model, target = linen_variables(ours, seed=1)
    expected = model.apply(target, X)
    data = [path for path in folder.rglob("d/*") if path.is_file()]
    assert data
    for path in data:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with ocp.StandardCheckpointer() as checkpointer:
        with pytest.raises(Exception, match=r"(?i)ocdbt|corrupt|data|read"):
            checkpointer.restore(folder, abstract(target))
    assert_same(model.apply(target, X), expected)


def test_a_half_written_checkpoint_is_refused_and_changes_nothing(saved_folder):
    """In a process of its own: when the first read has failed, Orbax closes its event loop, and the
    other reads, which it does not wait for, then find it closed, in whatever test runs by then."""
    child = multiprocessing.get_context("spawn").Process(
        target=refuse_half_written, args=(saved_folder,)
    )
    child.start()
    child.join()
    assert child.exitcode == 0


def test_a_checkpoint_of_another_model_is_refused_by_the_path_that_differs(saved_folder):
    other = ours.to_linen(nnx.Linear, 4, 4)
    with ocp.StandardCheckpointer() as checkpointer:
        with pytest.raises(ValueError, match=r"bias|kernel"):
            checkpointer.restore(saved_folder, abstract(other.init(jax.random.key(0), X)))


def test_variables_of_another_model_are_named_when_they_are_applied(saved_folder):
    other = ours.to_linen(nnx.Linear, 4, 4)
    with ocp.StandardCheckpointer() as checkpointer:
        foreign = checkpointer.restore(saved_folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        other.apply(foreign, X)
    text = " ".join(str(warning.message) for warning in caught)
    for path in ("kernel", "bias", "boxed", "norm/scale"):
        assert path in text
