"""No layer class of flax.linen is forgotten."""

import jax
import pytest
from flax import linen as nn
from flax import nnx

import nnx_wrappers

from ..compare import assert_raised, outcome
from ..walk import classes_in
from .case import Case, floats
from .catalogue import CATALOGUE, EXCLUDED


def test_every_layer_class_is_catalogued_or_excluded_with_a_reason() -> None:
    assert not CATALOGUE.keys() & EXCLUDED.keys()
    assert classes_in(nn, nn.Module) == CATALOGUE.keys() | EXCLUDED.keys()
    assert all(reason for _, reason in EXCLUDED.values())


@pytest.mark.filterwarnings("ignore:The Fp8DotGeneralOp is deprecated:DeprecationWarning")
@pytest.mark.parametrize("layer", CATALOGUE, ids=lambda layer: layer.__qualname__)
def test_the_cases_of_a_class_build_that_class(layer: type[nn.Module]) -> None:
    cases: tuple[Case, ...] = CATALOGUE[layer]
    assert cases
    assert all(type(case.build()) is layer for case in cases)


@pytest.mark.parametrize("layer", EXCLUDED, ids=lambda layer: layer.__qualname__)
def test_an_excluded_class_cannot_run_by_itself(layer: type[nn.Module]) -> None:
    build, _ = EXCLUDED[layer]
    x = floats(2, 3, 4)
    plain = outcome(lambda: build().init(jax.random.key(0), x))
    mine = outcome(lambda: nnx_wrappers.ToNNX(build(), rngs=nnx.Rngs(0)).lazy_init(x))
    assert_raised(plain, Exception)
    assert_raised(mine, type(plain.error))
