"""Training on two processes with two devices each gives what one process with four gives, and what
Flax's bridge gives, bit for bit.

Bit for bit holds between processes since each axis of the mesh has two devices: a sum of two is the
same in either order. Flax's bridge cannot name the shards of boxes before it makes them
(tests/python/convert/test_sharding.py pins that), so its Linen program is placed by our shardings.
"""

import numpy as np
import pytest
from launch import LAST, PROGRAMS, Results


@pytest.mark.short
@pytest.mark.parametrize("program", PROGRAMS)
def test_two_processes_train_as_one(program, two, four, assert_equal):
    mine = two.of(f"{program} ours")
    assert_equal(mine, four.of(f"{program} ours"))
    losses = mine["losses"]
    assert len(set(losses.tolist())) == LAST
    assert np.isfinite(losses).all()


@pytest.mark.short
@pytest.mark.parametrize("program", PROGRAMS)
def test_one_process_trains_as_on_flax_bridge(program, four, assert_equal):
    assert_equal(four.of(f"{program} ours"), four.of(f"{program} flax"))


@pytest.mark.parametrize("program", PROGRAMS)
def test_two_processes_train_as_on_flax_bridge(program, two, two_on_flax, assert_equal):
    assert_equal(two.of(f"{program} ours"), two_on_flax.of(f"{program} flax"))


# Weight and its two moments -> how it is split.
SPLIT = {
    "linen": {
        "['first']['kernel']": "('data', 'model') (4, 4) of (8, 8)",
        "['layers']['up']['kernel']": "(None, 'data', 'model') (3, 4, 8) of (3, 8, 16)",
        "['layers']['down']['kernel']": "(None, 'model', 'data') (3, 8, 4) of (3, 16, 8)",
    },
    "nnx": {
        "['linen']['up']['kernel']": "('data', 'model') (4, 8) of (8, 16)",
        "['linen']['down']['kernel']": "('model', 'data') (8, 4) of (16, 8)",
        "['last']['kernel']": "('data', 'model') (4, 4) of (8, 8)",
    },
}


@pytest.mark.short
@pytest.mark.parametrize("program", PROGRAMS)
def test_weights_and_moments_are_split_along_both_axes(program: str, two: Results) -> None:
    places = {name: str(place) for name, place in two.of(f"{program} ours", "place").items()}
    split = {name for name, place in places.items() if not place.startswith("()")}
    expected = {
        name: place for weight, place in SPLIT[program].items() for name in places if weight in name
    }
    assert len(expected) == 9
    assert split == set(expected)
    assert {name: places[name] for name in expected} == expected
