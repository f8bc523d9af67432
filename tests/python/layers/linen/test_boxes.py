"""Linen's boxes of sharding names, with a mesh and without one."""

import contextlib
import dataclasses
import typing as tp

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import nnx_wrappers

from ..compare import Bridge, assert_agree, assert_raised, outcome, record
from .case import Case
from .modes import MODES, build, fresh_model, update
from .own_modules import OWN_CASES

CASES = [case for case in OWN_CASES if case.name in ("Partitioned", "Logical")]
ON_A_MESH = ("lazy_init", "call_twice", "nnx_jit", "split_merge", "inside_a_module")


@contextlib.contextmanager
def mesh() -> tp.Iterator[None]:
    """A mesh of one device with the names that the cases use."""
    names = ("in", "out", "batch", "embed", "mlp")
    kinds = (jax.sharding.AxisType.Auto,) * len(names)
    with (
        jax.set_mesh(jax.make_mesh((1,) * len(names), names, axis_types=kinds)),
        nnx.use_eager_sharding(True),
    ):
        yield


MESH_CASES = [dataclasses.replace(case, context=mesh) for case in CASES]


@pytest.mark.parametrize("mode", ON_A_MESH)
@pytest.mark.parametrize("case", MESH_CASES, ids=str)
def test_boxed_values_are_placed_on_the_mesh_as_in_flax(case: Case, mode: str) -> None:
    with case.context():
        reference = outcome(MODES[mode], nnx.bridge, case)
        mine = outcome(MODES[mode], nnx_wrappers, case)
    assert_agree(mine, reference)


def _without_flag(module: nnx.Module) -> tp.Any:
    state = nnx.state(module)
    return [
        (path, type(leaf), {**leaf.get_metadata(), "eager_sharding": None}, record(leaf[...]))
        for path, leaf in nnx.to_flat_state(state)
    ]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_boxed_values_need_no_mesh(case: Case) -> None:
    """Flax's bridge needs one, or its eager sharding turned off."""
    assert_raised(outcome(fresh_model, nnx.bridge, case), ValueError)
    with nnx.use_eager_sharding(False):
        expected = fresh_model(nnx.bridge, case)
        expected_out = update(expected, case)
    module = fresh_model(nnx_wrappers, case)
    assert_agree(update(module, case), expected_out)
    assert _without_flag(module) == _without_flag(expected)


def _stacked(bridge: Bridge, case: Case) -> tp.Any:
    """A stack of two, made and called with a name for the axis that NNX adds."""
    layers = {nnx.PARTITION_NAME: "layers"}

    @nnx.split_rngs(splits=2)
    @nnx.vmap(in_axes=(0,), out_axes=0, transform_metadata=layers)
    def create(rngs: nnx.Rngs) -> tp.Any:
        return build(bridge, case, rngs).lazy_init(*case.first_args)

    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0), transform_metadata=layers)
    def step(count: jax.Array, module: tp.Any) -> tp.Any:
        return count + 1, update(module, case)

    made = create(case.rngs())
    stack = nnx.clone(made)
    return made, step(jnp.array(0), stack), stack


@pytest.mark.parametrize("case", CASES, ids=str)
def test_nnx_transformations_name_the_axis_of_boxed_values_as_in_flax(case: Case) -> None:
    with nnx.use_eager_sharding(False):
        reference = outcome(_stacked, nnx.bridge, case)
        mine = outcome(_stacked, nnx_wrappers, case)
    assert_agree(mine, reference)
    kernel = mine[0].Dense_0["kernel"]
    assert kernel.get_metadata()["out_sharding"][0] == "layers"
