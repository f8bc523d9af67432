"""Host seconds of MaxText's train step, upstream and ours in turn:

    python tests/maxtext/timing.py [--layers 8] [--times 3] [--block llama2] [--scan]

Prints the best of each for the four wirings: seconds inside the bridge, JAX's time to trace and
lower the train step the first time, and the seconds of the whole program, which ends after two
steps: imports, initialization and compilation included. One process at a time; nothing else should
run.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import training
from rich.console import Console
from rich.table import Table

CLOCK = str(Path(__file__).with_name("clock.py"))


def measure(side: training.Side, model: training.Model, folder: Path, layers: int) -> list[float]:
    """Seconds in the bridge, of the first trace and lowering, and of the whole program."""
    folder.mkdir(parents=True)
    times = folder / "times.json"
    report = ["--report-file", str(folder / "report.json")] if side == "ours" else []
    arguments = {"steps": 2, "base_num_decoder_layers": layers}
    start = time.perf_counter()
    run = training.start(side, model, folder, CLOCK, str(times), side, *report, **arguments)
    run.wait()
    whole = time.perf_counter() - start
    read = json.loads(times.read_text())
    bridge = read["bridge"]
    if side == "ours":
        bridge = sum(row["seconds"] for row in run.report())
    return [bridge, read["trace"][0] + read["lower"][0], whole]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--block", choices=training.MODELS, default="llama2")
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--wirings", nargs="+", default=list(training.WIRINGS))
    options = parser.parse_args()
    table = Table(title=f"{options.block}, {options.layers} layers, scan_layers={options.scan}")
    table.add_column("wiring")
    for what in ("bridge", "trace + lower", "whole program"):
        for heading in (f"{what}, upstream", "ours", "ratio"):
            table.add_column(heading, justify="right")
    for wiring in options.wirings:
        model = training.Model(wiring, options.block, options.scan)
        best: dict[training.Side, list[float]] = {}
        for _ in range(options.times):
            for side in training.SIDES:
                with tempfile.TemporaryDirectory() as folder:
                    found = measure(side, model, Path(folder) / "run", options.layers)
                best[side] = [min(pair) for pair in zip(best.get(side, found), found, strict=True)]
        cells = []
        for upstream, ours in zip(best["upstream"], best["ours"], strict=True):
            cells += [f"{upstream:.3f} s", f"{ours:.3f} s", f"{ours / upstream:.2f}"]
        table.add_row(wiring, *cells)
        print(wiring, *cells, file=sys.stderr)
    Console().print(table)


if __name__ == "__main__":
    main()
