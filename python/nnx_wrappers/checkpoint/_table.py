"""The table of a report on the command line: leaves that are alike share a row."""

import re
import shutil
import sys
from collections.abc import Iterable

from nnx_wrappers.checkpoint._inspect import columns
from nnx_wrappers.checkpoint._names import EMA, OPT
from nnx_wrappers.checkpoint._report import FINE, PROBLEMS, Report, Row

FOLLOWERS = (f"{OPT}/", f"{EMA}/")
NUMBER = re.compile(r"(?<=[/_])\d+(?=/)|(?<=entry )\d+")
PIECES = re.compile(f"({NUMBER.pattern})")


def lines_of(report: Report, whole: bool) -> list[str]:
    """A row for each leaf but those that simply matched; if not `whole`, one for leaves alike.

    Leaves are alike if they are the same but for the number of a layer. Moments and averages are
    left out if the same happens to their parameter.
    """
    rows: list[tuple[str, ...]] = []
    followers = 0
    own = {(row.status, path) for row in report.rows for path in _paths(row)}
    for status in (*FINE[1:], *PROBLEMS):
        groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for row in report.of(status):
            if not whole and _follows(row, own):
                followers += 1
                continue
            texts = (row.target, "" if row.source == row.target else row.source, row.note)
            alike = texts if whole else tuple(NUMBER.sub("*", text) for text in texts)
            groups.setdefault(alike, []).append(texts)
        rows += [(status, _times(len(group)), *_common(group)) for group in groups.values()]
    if not rows:
        return []
    lines = columns([("status", "", "target", "source", "note"), *rows])
    if followers:
        lines.append(f"and {followers} moments and averages as their parameters; --all shows them")
    return lines


def _times(count: int) -> str:
    return "" if count == 1 else f"{count}x"


def _common(group: list[tuple[str, ...]]) -> tuple[str, ...]:
    """The texts of a group with a star where their numbers differ."""
    made = []
    for texts in zip(*group, strict=True):
        pieces = [PIECES.split(text) for text in texts]
        columns_of = zip(*pieces, strict=True)
        made.append("".join(p[0] if len(set(p)) == 1 else "*" for p in columns_of))
    return tuple(made)


def _paths(row: Row) -> Iterable[str]:
    """The paths of a row that is about a parameter."""
    for name in (row.target, row.source):
        if name and not name.startswith(FOLLOWERS):
            yield name.removeprefix("params/")


def _follows(row: Row, own: set[tuple[str, str]]) -> bool:
    name = row.target or row.source
    if not name.startswith(FOLLOWERS):
        return False
    parts = name.split("/")
    return any((row.status, "/".join(parts[i:])) in own for i in range(1, len(parts)))


def print_cut(lines: Iterable[str]) -> None:
    """Prints lines that fit the terminal; into a file or a pipe they go whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    for line in lines:
        print(line if not width or len(line) <= width else line[: width - 1] + "…")
