"""A catalogue compares each case in each mode. A share is a part of the pairs with every case and
every mode in it, so that two runs on two lines of Python can divide the work. What hardly depends
on the line is in the first share."""

import re

import pytest


def parse(text: str) -> tuple[int, int]:
    """`"1/2"` is the first of two shares, `"1/1"` everything; else a ValueError."""
    match = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"a share is K/N, with K from 1 to N, as 1/2; not {text!r}")
    return int(match[1]), int(match[2])


def holds(share: tuple[int, int], pair: tuple[int, ...]) -> bool:
    """Whether a share has the pair of these indices: pairs alternate as on a chessboard. What has
    no indices is in the first share."""
    which, of = share
    return sum(pair) % of == which - 1


class Pairs:
    """Numbers the values of two parameters in the order in which they come."""

    def __init__(self) -> None:
        self._seen: dict[object, dict[int, int]] = {}

    def of(self, item: pytest.Item) -> tuple[int, ...] | None:
        """The indices of a test's pair; None for a test without the marker `shared`."""
        marker = item.get_closest_marker("shared")
        if marker is None:
            return None
        return tuple(self._index(item, name) for name in marker.args)

    def _index(self, item: pytest.Item, name: str) -> int:
        seen = self._seen.setdefault((item.function, name), {})
        return seen.setdefault(id(item.callspec.params[name]), len(seen))
