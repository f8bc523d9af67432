"""`python -m nnx_wrappers run` runs a program on this library, `ckpt` moves checkpoints."""

import argparse
import inspect
import json
import os
import runpy
import sys
import typing as tp

import nnx_wrappers
from nnx_wrappers._report import print_report

DESCRIPTION = """\
Runs a program with nnx_wrappers in the place of flax.nnx.bridge's wrappers and of
maxtext.layers.nnx_wrappers:

  python -m nnx_wrappers run [--report] -m maxtext.trainers.pre_train.train ARGS...
  python -m nnx_wrappers run [--report] script.py ARGS...
"""


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m nnx_wrappers",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|ckpt")
    commands.add_parser("ckpt", help="inspect, compare and convert checkpoints", add_help=False)
    run = commands.add_parser(
        "run",
        help="run a program on this library, unmodified",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    run.add_argument("--report", action="store_true", help="print a table of what the bridge did")
    run.add_argument("--report-file", metavar="FILE", help="write that table as JSON")
    run.add_argument("-m", dest="module", action="store_true", help="the program is a module")
    run.add_argument("program", help="the script, or with -m the module")
    run.add_argument("args", nargs=argparse.REMAINDER, help="passed on")
    options = parser.parse_args(argv)
    if not options.module and not os.path.exists(options.program):
        run.error(f"there is no script {options.program!r}; a module is given with -m")
    if options.report_file is not None:
        options.report_file = os.path.abspath(options.report_file)  # the program may chdir
        if not os.path.isdir(os.path.dirname(options.report_file)):
            run.error(f"there is no folder for the report file {options.report_file!r}")
    return options


def name_frames() -> None:
    """Tells `inspect` the module of the stack frames below the program.

    No module has the file of these frames, so `inspect` would search all modules for it in each
    `inspect.stack()`.
    """
    for name in ("<frozen runpy>", __file__):
        inspect.modulesbyfile[os.path.abspath(name)] = "runpy"


def run_program(program: str, is_module: bool, args: list[str]) -> None:
    """Runs a script as `python program args` does, or a module as `python -m program args` does."""
    sys.argv = [program, *args]
    name_frames()
    if is_module:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    if not sys.flags.safe_path:
        sys.path[0] = os.path.dirname(os.path.realpath(program))
    runpy.run_path(program, run_name="__main__")


def move_checkpoint(argv: list[str]) -> int:
    """Runs a command on checkpoints; what it needs is imported only now."""
    from nnx_wrappers.checkpoint import _command_line

    return _command_line.main(argv)


def main(argv: list[str]) -> int:
    if argv[:1] == ["ckpt"]:
        return move_checkpoint(argv[1:])
    options = parse(argv)
    installation = nnx_wrappers.install()
    print(f"nnx_wrappers {nnx_wrappers.__version__}: {installation!r}", file=sys.stderr)
    reports = options.report or options.report_file is not None
    nnx_wrappers.record_usage(reports)
    try:
        run_program(options.program, options.module, options.args)
    finally:
        rows: list[dict[str, tp.Any]] = nnx_wrappers.usage()
        if options.report:
            print_report(rows)
        if options.report_file is not None:
            with open(options.report_file, "w", encoding="utf-8") as file:
                json.dump(rows, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
