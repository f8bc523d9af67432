"""Shares of a catalogue: together they are all of it."""

import itertools

import pytest

from support import shares


@pytest.mark.parametrize("of", [1, 2, 3])
def test_each_pair_is_in_one_share_and_each_share_has_every_case_and_mode(of: int) -> None:
    cases, modes = range(5), range(4)
    parts = [
        [pair for pair in itertools.product(cases, modes) if shares.holds((which, of), pair)]
        for which in range(1, of + 1)
    ]
    assert sorted(itertools.chain(*parts)) == list(itertools.product(cases, modes))
    for part in parts:
        assert {case for case, _ in part} == set(cases)
        assert {mode for _, mode in part} == set(modes)


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a share is K/N"):
        shares.parse(text)


@pytest.mark.shared("row", "column")
@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("row", ["a", "b"])
def test_pairs_are_numbered_by_their_parameters(
    row: str, column: int, request: pytest.FixtureRequest
) -> None:
    """Which of the six run depends on --share."""
    tests = [item for item in request.session.items if item.function is request.function]
    pairs = shares.Pairs()
    assert len({pairs.of(item) for item in tests}) == len(tests)


def test_a_test_without_parameters_is_in_the_first_share() -> None:
    assert shares.holds((1, 2), ())
    assert not shares.holds((2, 2), ())
