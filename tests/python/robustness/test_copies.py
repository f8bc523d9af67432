"""copy, deepcopy, pickle and cloudpickle of wrappers, in this process and into another."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable

import cloudpickle
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers

X = jnp.ones((2, 4))
Linear = nnx_wrappers.to_linen_class(nnx.Linear, in_features=4)


class Sub(Linear):
    """A subclass is found by its name."""


def wider(module: nnx.Module, name: str | None) -> nnx.Module:
    module.label = name
    return module


def by_pickle(value: object) -> object:
    return pickle.loads(pickle.dumps(value))


def by_cloudpickle(value: object) -> object:
    return pickle.loads(cloudpickle.dumps(value))


WAYS = [copy.copy, copy.deepcopy, by_pickle, by_cloudpickle]

MODELS = {
    "ToLinen": nnx_wrappers.ToLinen(nnx.Linear, args=(4, 3)),
    "to_linen": nnx_wrappers.to_linen(nnx.Linear, 4, out_features=3, name="layer"),
    "raw leaves": nnx_wrappers.ToLinen(nnx.Linear, args=(4, 3), metadata_fn=None),
    "augmented": nnx_wrappers.ToLinen(nnx.Linear, (4, 3), nnx_module_augment_fn=wider),
    "made class": Linear(out_features=3),
    "subclass": Sub(out_features=3, skip_rng=False),
    "ToLinen in Linen": nn.Sequential(
        [nnx_wrappers.to_linen(nnx.Linear, 4, 4), Linear(out_features=3)]
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_a_linen_wrapper_is_copied(name: str, way: Callable) -> None:
    model = MODELS[name]
    copied = way(model)
    assert type(copied) is type(model)
    assert copied == model
    assert copied is not model
    variables = model.init(jax.random.key(0), X)
    np.testing.assert_array_equal(copied.apply(variables, X), model.apply(variables, X))


@pytest.mark.parametrize("way", WAYS)
def test_a_class_of_to_linen_class_is_itself_after_a_copy(way: Callable) -> None:
    assert way(Linear) is Linear
    assert way(Sub) is Sub


# Linen itself cannot pickle a bound module.
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
def test_a_bound_wrapper_is_copied_with_its_variables(way: Callable) -> None:
    model = nnx_wrappers.to_linen(nnx.Linear, 4, 3)
    bound = model.bind(model.init(jax.random.key(0), X))
    np.testing.assert_array_equal(way(bound)(X), bound(X))


def to_nnx(wrapped: nn.Module) -> nnx_wrappers.ToNNX:
    return nnx_wrappers.ToNNX(wrapped, rngs=nnx.Rngs(0)).lazy_init(X)


@pytest.mark.parametrize("way", [copy.deepcopy, by_pickle, by_cloudpickle])
def test_a_copied_to_nnx_is_independent(way: Callable) -> None:
    # A Linen layer's own initializers are local functions, which plain pickle refuses.
    model = to_nnx(nnx_wrappers.to_linen(nnx.Linear, 4, 3))
    copied = way(model)
    kernel, out = np.array(model.kernel[...]), model(X)
    np.testing.assert_array_equal(copied(X), out)
    count = int(copied.to_nnx__rngs.params.count[...])
    assert count == model.to_nnx__rngs.params.count[...]
    copied.kernel[...] += 1
    copied.to_nnx__rngs.params()
    np.testing.assert_array_equal(model.kernel[...], kernel)
    assert (
        int(copied.to_nnx__rngs.params.count[...]),
        int(model.to_nnx__rngs.params.count[...]),
    ) == (count + 1, count)


def test_a_shallow_copy_of_a_to_nnx_shares_its_variables_as_flax_does() -> None:
    model = to_nnx(nn.Dense(3))
    copied = copy.copy(model)
    assert copied.kernel is model.kernel
    theirs = nnx.bridge.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0)).lazy_init(X)
    assert copy.copy(theirs).kernel is theirs.kernel


def test_a_to_nnx_is_copied_before_its_variables_are_made() -> None:
    fresh = nnx_wrappers.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    copied = by_cloudpickle(copy.deepcopy(fresh))
    np.testing.assert_array_equal(copied.lazy_init(X)(X), fresh.lazy_init(X)(X))


@pytest.mark.parametrize("way", WAYS)
def test_a_box_is_copied(way: Callable) -> None:
    box = nnx_wrappers.NNXMeta(nnx.Param, jnp.arange(3.0), {"note": "mine"})
    copied = way(box)
    assert type(copied) is nnx_wrappers.NNXMeta
    assert (copied.var_type, copied.metadata) == (nnx.Param, {"note": "mine"})
    np.testing.assert_array_equal(copied.value, box.value)


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
def test_another_process_reads_what_was_pickled(dumps: Callable, tmp_path) -> None:
    made = nnx_wrappers.to_linen_class(nnx.Linear, in_features=4)
    models = [made(out_features=3), made(out_features=3), nnx_wrappers.to_linen(nnx.Linear, 4, 3)]
    variables = models[0].init(jax.random.key(0), X)
    (tmp_path / "pickled").write_bytes(dumps((models, variables, to_nnx(models[2]))))
    program = """
import pickle, sys
import jax.numpy as jnp
models, variables, to_nnx = pickle.load(open(sys.argv[1], "rb"))
assert type(models[0]) is type(models[1])
assert type(models[0]).__name__ == "LinearToLinen"
x = jnp.ones((2, 4))
outs = [*(model.apply(variables, x) for model in models), to_nnx(x)]
pickle.dump(outs, open(sys.argv[1], "wb"))
"""
    path = str(tmp_path / "pickled")
    subprocess.run([sys.executable, "-c", program, path], check=True)
    outs = pickle.loads((tmp_path / "pickled").read_bytes())
    expected = [*(model.apply(variables, X) for model in models), to_nnx(models[2])(X)]
    jax.tree.map(np.testing.assert_array_equal, outs, expected)
