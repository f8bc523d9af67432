"""Linen modules that Flax's bridge cannot run: here Linen itself is what to agree with."""

import typing as tp

import flax
import jax
import pytest
from flax import linen as nn
from flax import nnx
from flax.errors import InvalidRngError

import nnx_wrappers

from ..compare import assert_agree, assert_raised, outcome, record
from .case import Case, floats, tokens
from .modes import fresh_model, update
from .own_modules import Boxed, NameScopes, UnitBox

X = floats(2, 4)
FIXED_IN = (0, 12, 12)
FLAX = tuple(int(part) for part in flax.__version__.split(".")[:3])

# What it is that fails: the module, and the error of Flax's bridge, if this Flax has it.
CASES: dict[str, tuple[tp.Callable[[], nn.Module], type[Exception] | None]] = {
    "submodules named as methods": (NameScopes, AssertionError),
    "boxes without conversions": (
        lambda: Boxed(UnitBox),
        TypeError if FLAX < FIXED_IN else None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_agrees_with_linen_where_flax_fails(name: str) -> None:
    make, error = CASES[name]
    case = Case(name, make, (X,))
    theirs = outcome(lambda: update(fresh_model(nnx.bridge, case), case))
    module = fresh_model(nnx_wrappers, case)
    variables = make().init({"params": case.rngs().fork().params()}, X)
    plain = make().apply(variables, X)
    assert_agree(update(module, case), plain)
    leaves = jax.tree.leaves(variables)
    assert record(jax.tree.leaves(nnx.state(module, nnx.Param))) == record(leaves)
    if error is None:
        assert_agree(theirs, plain)
    else:
        assert_raised(theirs, error)


class Named(nn.Module):
    """A variable called as the test likes."""

    called: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.param(self.called, nn.initializers.ones, ())


@pytest.mark.parametrize("name", ["lazy_init", "release_rngs", "sow", "rngs", "to_nnx__x"])
def test_a_variable_that_would_hide_an_attribute_of_the_wrapper_is_refused(name: str) -> None:
    module = nnx_wrappers.ToNNX(Named(name), rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match=f"params/{name}"):
        module.lazy_init(X)
    assert set(vars(module)) == set(vars(nnx_wrappers.ToNNX(Named(name), rngs=nnx.Rngs(0))))


def test_methods_can_be_called_after_the_own_output_was_captured() -> None:
    """Linen captures it under the name __call__, and Flax's bridge then calls the capture."""
    case = Case("Embed", lambda: nn.Embed(5, 4), (tokens(2, 3),))
    options = {"mutable": ["intermediates"], "capture_intermediates": True}
    theirs, mine = fresh_model(nnx.bridge, case), fresh_model(nnx_wrappers, case)
    expected = theirs.attend(X)
    for module in (theirs, mine):
        module(*case.args, **options)
        assert isinstance(vars(module)["__call__"], nnx.Intermediate)
    assert_raised(outcome(lambda: theirs.attend(X)), TypeError)
    assert_agree(mine.attend(X), expected)


def test_keys_of_a_call_may_be_given_as_a_dict() -> None:
    """Flax's bridge takes a dict for no keys at all."""
    case = Case("Dropout", lambda: nn.Dropout(0.5, deterministic=False), (X,))
    keys = {"dropout": jax.random.key(5)}
    plain = case.build().apply({}, X, rngs=keys)
    assert_agree(fresh_model(nnx_wrappers, case)(X, rngs=keys, mutable=False), plain)
    assert_raised(outcome(lambda: fresh_model(nnx.bridge, case)(X, rngs=keys)), InvalidRngError)
