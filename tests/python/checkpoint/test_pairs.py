"""Layers whose parameters have other names or shapes in the other system."""

import typing as tp

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from nnx_wrappers import dump_linen, load_linen

X = jnp.linspace(-1, 1, 2 * 5 * 3).reshape(2, 5, 3)
KEY = jax.random.key(0)


def values_of(shapes: tp.Any) -> tp.Any:
    """Other values for each leaf, so that no two could be taken for each other."""
    leaves, structure = jax.tree.flatten(shapes)
    keys = jax.random.split(KEY, len(leaves))
    made = [
        jax.random.uniform(k, x.shape, x.dtype, 0.1, 1) for k, x in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, made)


def rnn(cell: tp.Any) -> tuple[nn.Module, nnx.Module]:
    r = nnx.Rngs(0)
    return nn.RNN(getattr(nn, cell)(4)), nnx.RNN(getattr(nnx, cell)(3, 4, rngs=r), rngs=r)


def normed(kind: str) -> tuple[nn.Module, nnx.Module]:
    r = nnx.Rngs(0)
    return getattr(nn, kind)(nn.Dense(4)), getattr(nnx, kind)(nnx.Linear(3, 4, rngs=r), rngs=r)


PAIRS = {
    "LSTMCell": lambda: rnn("LSTMCell"),
    "OptimizedLSTMCell": lambda: rnn("OptimizedLSTMCell"),
    "SimpleCell": lambda: rnn("SimpleCell"),
    "WeightNorm": lambda: normed("WeightNorm"),
    "SpectralNorm": lambda: normed("SpectralNorm"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_of_layers_is_known_and_gives_the_same_bits(name: str) -> None:
    linen, model = PAIRS[name]()
    more = {"update_stats": False} if name == "SpectralNorm" else {}
    variables = values_of(jax.eval_shape(lambda: linen.init(KEY, X, **more)))
    report = load_linen(model, None, variables)
    assert report.ok
    assert not report.of("missing", "unexpected")
    for like in (variables, None):
        back, _ = dump_linen(model, like=like)
        assert jax.tree.structure(back) == jax.tree.structure(variables)
        assert jax.tree.all(jax.tree.map(np.array_equal, back, variables))
    # Last, since NNX's normalized layers write into the layer that they call.
    assert np.array_equal(model(X, **more), linen.apply(variables, X, **more))


def test_a_gru_has_no_counterpart_and_that_is_said() -> None:
    linen, model = rnn("GRUCell")
    before = nnx.to_pure_dict(nnx.state(model))
    with pytest.raises(ValueError, match="NNX's GRUCell has no hn/bias") as caught:
        load_linen(model, None, linen.init(KEY, X))
    rows = caught.value.report.of("not representable")
    assert "cell/hn/bias" in {row.source.removeprefix("params/") for row in rows}
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, nnx.to_pure_dict(nnx.state(model))))


class LinenCells(nn.Module):
    @nn.compact
    def __call__(self, carry: tp.Any, _: None) -> tuple[tp.Any, None]:
        carry, _ = nn.OptimizedLSTMCell(4, name="cell")(carry, carry[1])
        return carry, None


class NNXCells(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(
            [nnx.Dict(cell=nnx.OptimizedLSTMCell(4, 4, rngs=rngs)) for _ in "ab"]
        )


def test_a_pair_of_layers_is_known_inside_of_a_stack() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, carry: tp.Any) -> tp.Any:
            scan = nn.scan(
                LinenCells, variable_axes={"params": 0}, split_rngs={"params": True}, length=2
            )
            return scan(name="layers")(carry, None)[0]

    carry = (jnp.ones((1, 4)), jnp.ones((1, 4)))
    variables = values_of(jax.eval_shape(lambda: Net().init(KEY, carry)))
    model = NNXCells(nnx.Rngs(0))
    load_linen(model, None, variables)
    for layer in model.layers:
        carry, _ = layer.cell(carry, carry[1])
    expected = Net().apply(variables, (jnp.ones((1, 4)), jnp.ones((1, 4))))
    assert np.allclose(carry[1], expected[1], atol=1e-6)
    back, _ = dump_linen(model, like=variables)
    assert jax.tree.all(jax.tree.map(np.array_equal, back, variables))
