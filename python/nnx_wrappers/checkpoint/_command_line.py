"""`python -m nnx_wrappers ckpt`: the three commands on checkpoints, and how they print."""

import argparse
import contextlib
import json
import logging
import os
import sys
import typing as tp
from collections.abc import Iterator

from nnx_wrappers.checkpoint import _packages
from nnx_wrappers.checkpoint._convert import Progress, compare_checkpoints, convert_checkpoint
from nnx_wrappers.checkpoint._inspect import inspect_checkpoint
from nnx_wrappers.checkpoint._report import CheckpointError, Report
from nnx_wrappers.checkpoint._table import lines_of, print_cut

SAME, DIFFERENT, ERROR = 0, 1, 2


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit status."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # tasks of Orbax that failed with us
    try:
        return COMMANDS[options.ckpt](options)
    except CheckpointError as error:
        if error.report is not None:
            _print_report(error.report, options)
        print(f"error: {str(error).partition('. ')[0]}", file=sys.stderr)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
    return ERROR


def _inspect(options: argparse.Namespace) -> int:
    found = inspect_checkpoint(options.checkpoint)
    if options.json:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_cut(str(found).splitlines())
    return SAME


def _compare(options: argparse.Namespace) -> int:
    report = compare_checkpoints(
        options.a, options.b, options.rules, values=options.values, only=options.only
    )
    _print_report(report, options)
    print("the same" if report.ok else "different")
    return SAME if report.ok else DIFFERENT


def _convert(options: argparse.Namespace) -> int:
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    with _progress() as progress:
        report = convert_checkpoint(
            options.source,
            options.destination,
            options.target,
            options.rules,
            missing=options.missing,
            unexpected=options.unexpected,
            cast=options.cast,
            rng_counts=options.rng_counts,
            dry_run=options.dry_run,
            progress=progress,
        )
    _print_report(report, options)
    done = "nothing was written: --dry-run" if options.dry_run else f"wrote {options.destination}"
    print(done)
    return SAME


COMMANDS = {"inspect": _inspect, "compare": _compare, "convert": _convert}


@contextlib.contextmanager
def _progress() -> Iterator[Progress | None]:
    """Shows a bar while many leaves are moved, if somebody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    rich = _packages.package("rich.progress", "the bar of the progress")
    console = _packages.package("rich.console", "the bar of the progress").Console(stderr=True)
    with rich.Progress(console=console, transient=True) as bar:
        task = bar.add_task("leaves", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def _print_report(report: Report, options: argparse.Namespace) -> None:
    """The counts, and a table of what was not simply matched."""
    print(report.summary())
    print_cut(lines_of(report, options.all))


def add_commands(parser: argparse.ArgumentParser) -> None:
    """The options of the three commands."""
    commands = parser.add_subparsers(dest="ckpt", required=True, metavar="COMMAND")
    inspect = commands.add_parser("inspect", help="say what a checkpoint holds")
    inspect.add_argument("checkpoint", metavar="CKPT", help="a checkpoint, or a folder of steps")
    inspect.add_argument("--json", action="store_true", help="print it as JSON, with all leaves")
    compare = commands.add_parser("compare", help="compare two checkpoints leaf by leaf")
    compare.add_argument("a", metavar="A", help="a checkpoint")
    compare.add_argument("b", metavar="B", help="another, of the same or of the other system")
    compare.add_argument("--values", metavar="exact|TOL", help="compare values too")
    compare.add_argument(
        "--only", choices=("params", "opt", "all"), default="all", help="a part of the leaves"
    )
    convert = commands.add_parser("convert", help="write a checkpoint for another model")
    convert.add_argument("source", metavar="SRC", help="a checkpoint, or a folder of steps")
    convert.add_argument("destination", metavar="DST", help="the folder to make")
    convert.add_argument(
        "--target",
        required=True,
        metavar="PKG.MODULE:MAKE",
        help="the function that makes the model",
    )
    convert.add_argument(
        "--missing", choices=("error", "init"), default="error", help="leaves that SRC lacks"
    )
    convert.add_argument(
        "--unexpected", choices=("error", "drop"), default="error", help="leaves without a place"
    )
    convert.add_argument("--cast", action="store_true", help="convert to the dtypes of the model")
    convert.add_argument("--rng-counts", type=int, metavar="N", help="counts of streams start at N")
    convert.add_argument("--dry-run", action="store_true", help="only say what would be done")
    for command in (compare, convert):
        command.add_argument("--rules", metavar="FILE", help="rules in TOML")
        command.add_argument("--all", action="store_true", help="print a row for each leaf")


def main(arguments: list[str]) -> int:
    """Parses and runs; what stands behind `ckpt`."""
    parser = argparse.ArgumentParser(
        prog="python -m nnx_wrappers ckpt", description="Moves checkpoints."
    )
    add_commands(parser)
    options: tp.Any = parser.parse_args(arguments)
    return run(options)
