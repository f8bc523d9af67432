"""Every layer in every mode: the same state, outputs, RNGs and errors as with Flax's bridge."""

import pytest
from flax import nnx

import nnx_wrappers

from ..compare import assert_agree, outcome
from .case import Case
from .catalogue import CATALOGUE
from .expectations import expected_error
from .modes import MODES, further_methods, present, update
from .modes import model as make_model
from .own_modules import OWN_CASES

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Fp8DotGeneralOp is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:SelfAttention will be deprecated soon:DeprecationWarning"),
    # Captured intermediates are no part of the NNX class inside the case HoldsNNX.
    pytest.mark.filterwarnings("ignore:Found unknown module paths:UserWarning"),
]

CASES = [*(case for cases in CATALOGUE.values() for case in cases), *OWN_CASES]


@pytest.mark.shared("case", "mode")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_does_what_flax_does(case: Case, mode: str) -> None:
    with case.context():
        reference = outcome(MODES[mode], nnx.bridge, case)
        mine = outcome(MODES[mode], nnx_wrappers, case)
    assert_agree(mine, reference, expected_error(mode, case))


@pytest.mark.parametrize("case", [case for case in CASES if case.methods], ids=str)
def test_further_methods_do_what_they_do_in_flax(case: Case) -> None:
    assert_agree(further_methods(nnx_wrappers, case), further_methods(nnx.bridge, case))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_present_collection_but_params_is_mutable_by_default(case: Case) -> None:
    with case.context():
        theirs, mine = make_model(nnx.bridge, case), make_model(nnx_wrappers, case)
        expected = [update(theirs, case), update(theirs, case), theirs, present(theirs)]
        out = [mine(*case.args, **case.kwargs) for _ in range(2)]
    assert_agree([*out, mine, present(mine)], expected)
