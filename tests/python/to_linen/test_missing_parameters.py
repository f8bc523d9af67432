"""Parameters that the variables lack: filled in, with one warning that names them."""

import re
import warnings

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import assert_same, ours, theirs

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}


class Model(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 3, rngs=rngs)
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.second = nnx.Linear(3, 2, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.drop(self.second(self.norm(self.first(x))))


def lacking(*names):
    variables = theirs.ToLinen(Model).init(RNGS, X)
    params = {k: v for k, v in variables["params"].items() if k not in names}
    return {**variables, "params": params}


def apply(bridge, variables):
    return bridge.ToLinen(Model).apply(variables, X, rngs=RNGS, mutable=["batch_stats"])


def caught(function, *args):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        result = function(*args)
    return result, [str(warning.message) for warning in seen]


@pytest.mark.parametrize("plans", [True, False])
def test_one_warning_names_every_path(plans):
    before = ours.use_plans(plans)
    try:
        result, texts = caught(apply, ours, lacking("first", "second"))
    finally:
        ours.use_plans(before)
    assert len(texts) == 1
    assert re.findall(r"- (\S+)", texts[0]) == [
        "first/bias", "first/kernel", "second/bias", "second/kernel"
    ]  # fmt: skip
    assert_same(result, apply(theirs, lacking("first", "second")))


def test_one_leaf_of_a_module():
    variables = lacking()
    variables["params"]["first"] = {"kernel": variables["params"]["first"]["kernel"]}
    result, texts = caught(apply, ours, variables)
    assert [re.findall(r"- (\S+)", text) for text in texts] == [["first/bias"]]
    assert_same(result, apply(theirs, variables))


def test_complete_variables_give_no_warning():
    result, texts = caught(apply, ours, lacking())
    assert texts == []
    assert_same(result, apply(theirs, lacking()))


def test_other_collections_may_be_left_out():
    variables = {"params": lacking()["params"]}
    result, texts = caught(apply, ours, variables)
    assert texts == []
    assert_same(result, apply(theirs, variables))


def test_parameters_that_need_no_computing_are_named_too():
    class Constant(nnx.Module):
        def __init__(self, rngs):
            self.w = nnx.Param(jnp.arange(3))

        def __call__(self):
            return self.w[...]

    _, texts = caught(ours.ToLinen(Constant).apply, {})
    assert ["- w" in text for text in texts] == [True]


def test_the_same_inside_a_linen_module():
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            return ours.ToLinen(nnx.Linear, args=(3, 2), name="inner")(x)

    params = Outer().init(RNGS, X)["params"]["inner"]
    _, texts = caught(Outer().apply, {"params": {"inner": {"kernel": params["kernel"]}}}, X)
    assert ["- bias" in text for text in texts] == [True]
