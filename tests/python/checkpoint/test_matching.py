"""What is matched without a rule, and what is not since it would be a guess."""

import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

from nnx_wrappers import dump_linen, load_linen

X = jnp.ones((2, 3))


class Layers(nnx.Module):
    def __init__(self, count: int, rngs: nnx.Rngs, features: int = 4) -> None:
        self.layers = nnx.List([nnx.Linear(3, features, rngs=rngs) for _ in range(count)])


def state_of(model: nnx.Module) -> dict[str, tp.Any]:
    flat = nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.RngState)))
    return {"/".join(map(str, path)): np.asarray(v.get_value()) for path, v in flat}


def stacked(count: int, axis: int) -> dict[str, tp.Any]:
    kernel = jnp.arange(12.0 * count).reshape(count, 3, 4)
    bias = jnp.arange(4.0 * count).reshape(count, 4)
    leaves = {"kernel": jnp.moveaxis(kernel, 0, axis), "bias": jnp.moveaxis(bias, 0, axis)}
    return {"params": {"layers": leaves}}


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("count", [2, 5])
def test_the_axis_of_a_stack_is_found_from_the_shapes(count: int, axis: int) -> None:
    model = Layers(count, nnx.Rngs(0))
    tree = stacked(count, axis)
    load_linen(model, None, tree)
    for i in range(count):
        whole = tree["params"]["layers"]["kernel"]
        assert np.array_equal(model.layers[i].kernel[...], jnp.take(whole, i, axis))
    assert jax.tree.all(jax.tree.map(np.array_equal, dump_linen(model, like=tree)[0], tree))


def test_an_axis_that_may_be_another_is_an_error_that_asks_for_a_rule() -> None:
    layers = nnx.List([nnx.Dict(w=nnx.Param(jnp.ones((3, 4)))) for _ in range(3)])
    holder = nnx.Dict(layers=layers)
    tree = {"params": {"layers": {"w": jnp.arange(36.0).reshape(3, 3, 4)}}}
    with pytest.raises(
        ValueError, match=r"axis on which layers is stacked may be 0 or 1; say it by"
    ):
        load_linen(holder, None, tree)
    rules = {"rule": [{"unstack": "layers", "axis": 1}]}
    load_linen(holder, None, tree, rules)
    assert np.array_equal(holder.layers[2].w[...], tree["params"]["layers"]["w"][:, 2])
    assert np.array_equal(
        dump_linen(holder, None, rules)[0]["params"]["layers"]["w"], tree["params"]["layers"]["w"]
    )


def test_numbered_layers_are_a_list() -> None:
    model = Layers(11, nnx.Rngs(0))
    tree = {f"layers_{i}": {"kernel": jnp.full((3, 4), i), "bias": jnp.ones(4)} for i in range(11)}
    load_linen(model, None, {"params": jax.tree.map(jnp.float32, tree)})
    assert [float(layer.kernel[0, 0]) for layer in model.layers] == list(range(11))


def test_boxes_and_texts_for_numbers_are_seen_through() -> None:
    boxed = {
        "0": {"kernel": nn.Partitioned(jnp.ones((3, 4)), names=("a", "b")), "bias": jnp.ones(4)}
    }
    model = Layers(1, nnx.Rngs(0))
    assert load_linen(model, None, {"params": {"layers": boxed}}).counts() == {"matched": 2}


def test_a_parameter_named_value_stays_one() -> None:
    model = nnx.Dict(
        pos=nnx.Dict(value=nnx.Param(jnp.zeros(2))),
        both=nnx.Dict(value=nnx.Param(jnp.zeros(2)), other=nnx.Param(jnp.zeros(2))),
    )
    tree = {
        "params": {
            "pos": {"value": jnp.ones(2)},
            "both": {"value": jnp.ones(2), "other": jnp.ones(2)},
        }
    }
    assert load_linen(model, None, tree).counts() == {"matched": 3}
    assert jax.tree.all(jax.tree.map(np.array_equal, dump_linen(model, like=tree)[0], tree))


def decay_kernels(tree: tp.Any) -> tp.Any:
    return jax.tree.map(lambda x: x.ndim > 1, tree)


OPTIMIZERS = {
    "adam": lambda: optax.adam(1e-3),
    "masked in steps": lambda: optax.MultiSteps(optax.masked(optax.adam(1e-3), decay_kernels), 2),
    "two of them": lambda: optax.multi_transform(
        {"a": optax.adam(1e-3), "b": optax.sgd(1e-2, 0.9)},
        lambda tree: jax.tree.map(lambda x: "a" if x.ndim > 1 else "b", tree),
    ),
    "hyperparameters": lambda: optax.inject_hyperparams(optax.adamw)(
        optax.linear_schedule(0, 1, 9)
    ),
    "average of the updates": lambda: optax.chain(optax.sgd(0.1), optax.ema(0.9)),
}


@pytest.mark.parametrize("nested", [False, True], ids=["params", "variables as params"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_of_optimizers_follow_their_parameters(name: str, nested: bool) -> None:
    tx = OPTIMIZERS[name]()
    variables = nn.Dense(4).init(jax.random.key(0), X)
    params = variables if nested else variables["params"]
    state = TrainState.create(apply_fn=None, params=params, tx=tx)
    grads = jax.tree.map(jnp.ones_like, params)
    for _ in range(3):
        state = state.apply_gradients(grads=grads)
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    assert load_linen(model, optimizer, state).ok
    assert int(optimizer.step[...]) == 3
    tree, report = dump_linen(model, optimizer, like=state)
    assert report.ok
    assert jax.tree.structure(tree) == jax.tree.structure(state)
    assert jax.tree.all(jax.tree.map(np.array_equal, tree, state))
    if not nested:
        free, _ = dump_linen(model, optimizer)
        assert jax.tree.structure(free["opt_state"]) == jax.tree.structure(state.opt_state)
        assert jax.tree.all(jax.tree.map(np.array_equal, free["opt_state"], state.opt_state))


def test_twins_are_suggested_and_not_taken() -> None:
    model = nnx.Dict(
        query=nnx.Linear(3, 3, rngs=nnx.Rngs(0)), key=nnx.Linear(3, 3, rngs=nnx.Rngs(1))
    )
    before = state_of(model)
    layer = {"kernel": jnp.ones((3, 3)), "bias": jnp.ones(3)}
    tree = {"params": {"query": layer, "k": layer}}
    with pytest.raises(ValueError, match="nothing was changed") as caught:
        load_linen(model, None, tree)
    assert str(caught.value).splitlines() == [
        "the tree does not fit the model; nothing was changed. 2 matched, 2 missing, 2 unexpected",
        "missing:",
        "  params/key/bias: of its shape in the source: params/k/bias",
        "  params/key/kernel: of its shape in the source: params/k/kernel",
        "unexpected:",
        "  params/k/bias",
        "  params/k/kernel",
    ]
    assert all(np.array_equal(value, before[path]) for path, value in state_of(model).items())


def test_all_problems_are_said_at_once() -> None:
    model = nnx.Dict(a=nnx.Linear(3, 4, rngs=nnx.Rngs(0)), norm=nnx.BatchNorm(4, rngs=nnx.Rngs(0)))
    tree = {
        "params": {
            "a": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(4, jnp.bfloat16)},
            "norm": {"scale": jnp.ones(4), "bias": jnp.ones(4)},
            "more": jnp.ones(7),
        }
    }
    with pytest.raises(ValueError) as caught:
        load_linen(model, None, tree)
    assert caught.value.report.counts() == {
        "matched": 2,
        "missing": 2,
        "unexpected": 1,
        "wrong shape": 1,
        "wrong dtype": 1,
    }


def test_what_was_asked_for_is_left_out_kept_or_cast() -> None:
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    bias = state_of(model)["bias"]
    tree = {"params": {"kernel": jnp.ones((3, 4), jnp.bfloat16), "more": jnp.ones(7)}}
    options = {"missing": "init", "unexpected": "drop", "cast": True}
    report = load_linen(model, None, tree, **options)
    assert report.counts() == {"cast": 1, "initial": 1, "dropped": 1}
    assert model.kernel.dtype == jnp.float32
    assert np.array_equal(model.bias[...], bias)
    with pytest.raises(ValueError, match="missing='none' is none of error, init"):
        load_linen(model, None, tree, missing="none")


def test_streams_are_named_and_their_counts_set_on_demand() -> None:
    model = nnx.Dict(
        drop=nnx.Dropout(0.5, rngs=nnx.Rngs(dropout=0)), a=nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    )
    tree = {"params": {"a": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}}
    report = load_linen(model, None, tree)
    assert [row.target for row in report.of("rng")] == [
        "rng_count/drop/rngs/count",
        "rng_key/drop/rngs/key",
    ]
    assert "`rng_counts` sets it" in str(report)
    load_linen(model, None, tree, rng_counts={"dropout": 5})
    assert int(model.drop.rngs.count[...]) == 5
    with pytest.raises(ValueError, match=r"streams that the model does not have: \['noise'\]"):
        load_linen(model, None, tree, rng_counts={"noise": 5})


def test_an_assignment_that_fails_takes_back_those_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, 0.9), wrt=nnx.Param)
    before = state_of(model), state_of(optimizer)
    params = {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}
    state = TrainState.create(apply_fn=None, params=params, tx=optax.sgd(0.1, 0.9))
    update, calls = nnx.update, []

    def failing(node: tp.Any, *states: tp.Any) -> None:
        calls.append(node)
        if len(calls) == 2:
            raise KeyboardInterrupt
        update(node, *states)

    monkeypatch.setattr(nnx, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        load_linen(model, optimizer, state)
    assert len(calls) > 2
    for now, then in zip((state_of(model), state_of(optimizer)), before, strict=True):
        assert all(np.array_equal(value, then[path]) for path, value in now.items())


def test_a_leaf_that_is_no_array_is_named() -> None:
    model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError, match=r"the leaf params/kernel is a str; expected an array"):
        load_linen(model, None, {"params": {"kernel": "w", "bias": jnp.ones(4)}})
    with pytest.raises(ValueError, match="two keys of the tree have one text"):
        load_linen(model, None, {"params": [{"a": 1.0}], "batch_stats": FrozenMix()})


@jax.tree_util.register_pytree_with_keys_class
class FrozenMix:
    """Has the keys 0 and '0'."""

    def tree_flatten_with_keys(self) -> tuple[list[tuple[tp.Any, tp.Any]], None]:
        keys = (jax.tree_util.DictKey(0), jax.tree_util.DictKey("0"))
        return [(key, 1.0) for key in keys], None

    @classmethod
    def tree_unflatten(cls, _: None, __: tp.Any) -> "FrozenMix":
        return cls()
