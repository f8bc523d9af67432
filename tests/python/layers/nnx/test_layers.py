"""Each layer class of flax.nnx in each mode, ours against Flax's bridge."""

import warnings

import pytest
from flax import nnx

import nnx_wrappers

from ..compare import assert_same, outcome, raised_in, record
from .case import Case
from .catalogue import CASES
from .differences import DIFFERENCES
from .modes import MODES, Mode, variables_of

pytestmark = [
    pytest.mark.filterwarnings(r"ignore:\s*Using 'Module.(sow|perturb)\(\)':DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:keep_rngs argument is deprecated:UserWarning"),
    # Some modes leave parameters out on purpose.
    pytest.mark.filterwarnings("ignore:ToLinen.apply. the variables lack parameters"),
    pytest.mark.filterwarnings("ignore:'.value' access is now deprecated:DeprecationWarning"),
]


@pytest.mark.shared("case", "mode")
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_layer_equals_flax_bridge(case: Case, mode: Mode) -> None:
    before = record(variables_of(case))
    difference = DIFFERENCES.get((case.name, mode.__name__))
    with warnings.catch_warnings():
        if difference is not None:
            warnings.filterwarnings("ignore", "Found unknown module paths", UserWarning)
        mine = outcome(mode, nnx_wrappers, case)
        reference = outcome(mode, nnx.bridge, case)
    if difference is not None:
        assert record(mine) != record(reference), "no difference any more"
        reference = outcome(difference.instead, case, mode)
    assert not raised_in(reference), "two exceptions would be equal for the wrong reasons"
    assert_same(mine, reference)
    assert record(variables_of(case)) == before, "the given variables were changed"
