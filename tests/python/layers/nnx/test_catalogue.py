"""No class of flax.nnx is left out, and what is excluded really cannot be bridged."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import nnx_wrappers

from ..compare import Raised, assert_same, outcome
from ..walk import classes_in
from .case import Case
from .catalogue import CASES, EXCLUDED
from .differences import DIFFERENCES
from .modes import MODES


def test_every_class_of_flax_nnx_is_compared_or_excluded() -> None:
    compared = {case.layer for case in CASES if case.layer not in EXCLUDED}
    assert compared | set(EXCLUDED) == classes_in(nnx, nnx.Pytree)


def test_case_names_are_unique() -> None:
    names = [case.name for case in CASES]
    assert len(names) == len(set(names))


def test_every_difference_names_a_case_and_a_mode() -> None:
    modes = {mode.__name__ for mode in MODES}
    names = {case.name for case in CASES}
    assert all(case in names and mode in modes for case, mode in DIFFERENCES)


@pytest.mark.filterwarnings("ignore:keep_rngs argument is deprecated:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_holds_the_class_that_it_stands_for(case: Case) -> None:
    rngs = {} if case.skip_rng else {"rngs": nnx.Rngs(0)}
    module = case.nnx_class(*case.new_args(), **case.kwargs, **rngs)
    assert any(isinstance(node, case.layer) for _, node in nnx.iter_graph(module))


@pytest.mark.parametrize("layer", EXCLUDED, ids=lambda layer: layer.__qualname__)
def test_an_excluded_class_fails_by_itself_and_in_flax_too(layer: type) -> None:
    def call(bridge) -> jax.Array:
        wrapped = bridge.ToLinen(layer, skip_rng=True)
        return wrapped.init_with_output(jax.random.key(0), jnp.ones((1, 2)))

    mine, reference = outcome(call, nnx_wrappers), outcome(call, nnx.bridge)
    assert isinstance(reference, Raised)
    if "no call" in EXCLUDED[layer] and isinstance(reference.error, TypeError):
        # Flax finds the call of the metaclass, and constructs a second object.
        assert isinstance(mine.error, AttributeError)
        assert "'__call__'" in str(mine.error)
    else:
        assert_same(mine, reference)


@pytest.mark.parametrize("layer", EXCLUDED, ids=lambda layer: layer.__qualname__)
def test_an_excluded_class_is_compared_through_a_subclass(layer: type) -> None:
    assert any(case.layer is layer for case in CASES)


class Layers(nnx.List):
    """A List that is the module itself."""

    def __init__(self, rngs: nnx.Rngs):
        super().__init__([nnx.Linear(2, 2, rngs=rngs)])

    def __call__(self, x):
        return self[0](x)


def test_a_list_as_the_module_itself_is_made_but_linen_refuses_its_integer_keys() -> None:
    def init(bridge):
        return bridge.ToLinen(Layers).init_with_output(jax.random.key(0), jnp.ones((1, 2)))

    def apply(bridge):
        _, variables = init(nnx.bridge)
        return bridge.ToLinen(Layers).apply(variables, jnp.ones((1, 2)))

    assert_same(init(nnx_wrappers), init(nnx.bridge))
    reference = outcome(apply, nnx.bridge)
    assert isinstance(reference, Raised)
    assert_same(outcome(apply, nnx_wrappers), reference)
