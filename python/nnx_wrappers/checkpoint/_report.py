"""What a move does with each leaf, all problems at once."""

import dataclasses
import typing as tp
from collections import Counter
from collections.abc import Iterable

# In the order in which they are shown.
FINE = ("matched", "renamed", "reshaped", "cast", "initial", "dropped", "rng")
PROBLEMS = (
    "missing",
    "unexpected",
    "wrong shape",
    "wrong dtype",
    "not representable",
    "ambiguous",
    "differs",
)
LONG = 8  # rows of one status in an error


@dataclasses.dataclass(frozen=True)
class Row:
    """One leaf of the target, or of the source if no leaf of the target takes it."""

    status: str
    target: str
    source: str = ""
    note: str = ""
    by_rule: bool = False

    def __str__(self) -> str:
        ends = [self.target, self.source] if self.target != self.source else [self.target]
        text = " <- ".join(end for end in ends if end)
        return f"{text}: {self.note}" if self.note else text


@dataclasses.dataclass
class Report:
    """The rows of a move.

    `rows` has a `Row` with `status`, `target`, `source`, `note` and `by_rule` for each leaf; `ok`
    says whether the move can be made (and, of a comparison, whether all is the same).
    """

    rows: list[Row] = dataclasses.field(default_factory=list)

    def add(self, status: str, target: str, source: str = "", note: str = "", **more: bool) -> None:
        self.rows.append(Row(status, target, source, note, **more))

    def of(self, *statuses: str) -> list[Row]:
        """The rows of these statuses."""
        return [row for row in self.rows if row.status in statuses]

    @property
    def ok(self) -> bool:
        return not self.of(*PROBLEMS)

    def counts(self) -> dict[str, int]:
        """How many leaves have which status."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in (*FINE, *PROBLEMS) if found[status]}

    def summary(self) -> str:
        by_rule = sum(row.by_rule for row in self.rows)
        counts = [f"{count} {status}" for status, count in self.counts().items()]
        return ", ".join(counts or ["no leaves"]) + (f" ({by_rule} by rule)" if by_rule else "")

    def text(self, statuses: Iterable[str] = (), long: int | None = None) -> str:
        """The summary, and the rows of these statuses, each under its own heading."""
        lines = [self.summary()]
        for status in statuses:
            rows = self.of(status)
            lines += [f"{status}:"] if rows else []
            lines += [f"  {row}" for row in rows[:long]]
            if long is not None and len(rows) > long:
                lines.append(f"  and {len(rows) - long} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text(("renamed", "reshaped", "cast", "initial", "dropped", "rng", *PROBLEMS))

    def as_dict(self) -> dict[str, tp.Any]:
        """The report as JSON can hold it."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return {"ok": self.ok, "counts": self.counts(), "leaves": rows}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or a move that cannot be made; see its `report`."""

    def __init__(self, text: str, report: Report | None = None) -> None:
        super().__init__(text)
        self.report = report


def refuse(report: Report, what: str) -> None:
    """Raises if the report has a problem."""
    if not report.ok:
        problems = report.text(PROBLEMS, LONG)
        raise CheckpointError(f"{what}; nothing was changed. {problems}", report)
