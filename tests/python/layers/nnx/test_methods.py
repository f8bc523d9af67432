"""Methods other than `__call__`, by name, as functions and as attributes of ToLinen."""

import inspect

import pytest
from flax import nnx

import nnx_wrappers

from ..compare import Raised, assert_same, outcome, raised_in
from ..walk import classes_in
from .methods import METHODS, RAISES, UNCOMPARED, Method, method_name, ways_of

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:\s*Using 'Module.(sow|perturb)\(\)':DeprecationWarning"),
]

LAYERS = sorted(classes_in(nnx, nnx.Pytree), key=str)
_CALLS = [
    pytest.param(way, method, id=f"{method.id}-{way.__name__}")
    for method in METHODS
    for way in ways_of(method)
]


@pytest.mark.parametrize(("way", "method"), _CALLS)
def test_method_equals_flax_bridge(way, method: Method) -> None:
    reference = outcome(way, nnx.bridge, method)
    assert isinstance(reference, Raised) == (method.id in RAISES)
    if not isinstance(reference, Raised):
        assert not raised_in(reference)
    assert_same(outcome(way, nnx_wrappers, method), reference)


def test_the_name_of_an_attribute_as_method_of_apply_raises_as_in_flax() -> None:
    """Linen takes the attribute from the unbound module; `nnx_method` is the way."""
    attend = next(method for method in METHODS if method.id == "Embed.attend")
    reference = outcome(method_name, nnx.bridge, attend)
    assert isinstance(reference, Raised)
    assert_same(outcome(method_name, nnx_wrappers, attend), reference)


def _public_functions(layer: type) -> set[str]:
    return {
        name
        for name, member in vars(layer).items()
        if inspect.isfunction(member)
        and member.__module__ == layer.__module__
        and not name.startswith("_")
    }


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__qualname__)
def test_no_public_method_is_forgotten(layer: type) -> None:
    compared = {method.name for method in METHODS if method.case.layer is layer}
    left_out = {name for names in UNCOMPARED.get(layer, {}) for name in names}
    assert _public_functions(layer) <= compared | left_out
    assert left_out <= _public_functions(layer)
