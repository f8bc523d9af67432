"""`get_layers` of a ToNNX: the layers of a decoder, as MaxText names them."""

import pytest
from flax import linen as nn
from flax import nnx

from support.oracle import ours

LAYERS = [
    (["layers_0", "layers_1"], ["layers_0", "layers_1"]),
    (["layers"], ["layers"]),
    (["moe_layers_1", "moe_layers_0", "dense_layers_0"],
     ["dense_layers_0", "moe_layers_0", "moe_layers_1"]),
    (["layers_0", "layers_2"], ["layers_0"]),
    (["layers_outside_pipeline_0", "scanned_blocks", "layers"],
     ["scanned_blocks", "layers", "layers_outside_pipeline_0"]),
    (["moe_layers_outside_pipeline", "dense_layers"],
     ["dense_layers", "moe_layers_outside_pipeline"]),
    (["layers_only"], ["layers_only"]),
    (["other"], []),
]  # fmt: skip


@pytest.mark.parametrize(("present", "expected"), LAYERS)
def test_layers_come_in_execution_order(present, expected):
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    modules = {name: nnx.Module() for name in present}
    for name, module in modules.items():
        setattr(model, name, module)
    assert [id(m) for m in model.get_layers()] == [id(modules[name]) for name in expected]


def test_an_empty_remainder_and_a_pipeline_are_special_layers():
    model = ours.ToNNX(nn.Dense(3), rngs=nnx.Rngs(0))
    model.layers_remainder = nnx.Module()
    model.layers_remainder.num_of_layers = 0
    model.pipeline_module = nnx.Module()
    model.pipeline_module.layers = nnx.Module()
    assert [id(m) for m in model.get_layers()] == [id(model.pipeline_module.layers)]
    model.layers_remainder.num_of_layers = 2
    assert [id(m) for m in model.get_layers()] == [
        id(model.pipeline_module.layers),
        id(model.layers_remainder),
    ]
