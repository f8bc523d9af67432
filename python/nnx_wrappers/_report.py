"""The table that `python -m nnx_wrappers run --report` prints."""

import sys
import typing as tp

from rich.console import Console
from rich.table import Table

COLUMNS = ("inits", "calls", "plans_built", "plan_hits")


def print_report(rows: list[dict[str, tp.Any]]) -> None:
    """Prints the rows of `nnx_wrappers.usage()` to the standard error."""
    table = Table(title="nnx_wrappers: what the bridge did")
    table.add_column("wrapped class", overflow="fold")
    for heading in ("inits", "calls", "plans built", "hits", "not planned", "seconds"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            f"{row['wrapper']}({row['wrapped']})",
            *(str(row[column]) for column in COLUMNS),
            str(sum(row["not_planned"].values())),
            f"{row['seconds']:.4f}",
        )
    table.add_section()
    table.add_row(
        "all",
        *(str(sum(row[column] for row in rows)) for column in COLUMNS),
        str(sum(sum(row["not_planned"].values()) for row in rows)),
        f"{sum(row['seconds'] for row in rows):.4f}",
    )
    # Where the output is no terminal, the names still belong on one line.
    console = Console(file=sys.stderr, width=None if sys.stderr.isatty() else 160)
    console.print(table)
    for row in rows:
        for changed, count in row["rebuilt"].items():
            text = f"planned anew: {row['wrapper']}({row['wrapped']}), {count} calls: {changed}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
        for reason, count in row["not_planned"].items():
            text = f"not planned: {row['wrapper']}({row['wrapped']}), {count} calls: {reason}"
            console.print(text, markup=False, highlight=False, soft_wrap=True)
