"""`python -m benchmarks`: measures, prints the table, writes JSON and the plot."""

import argparse
import pathlib
import sys

from benchmarks import (
    contenders,
    counts,
    measure,
    plots,
    processes,
    real_models,
    report,
    scaling,
    sizes,
)

RESULTS = pathlib.Path(__file__).parent / "results"
RATIO = "{:.3g} ms"


def timed_rows(seconds: float, only: str) -> list[plots.Result]:
    rows = []
    for row in contenders.ROWS:
        if only not in row.name:
            continue
        best = measure.best_times(row.build(), seconds)
        native = best["native"]
        rows.append({
            "name": row.name, "against": row.against, "goal": row.goal, "unit": RATIO,
            "is_ratio": True, "native": native * 1e3, "upstream": best["upstream"] / native,
            "ours": best["ours"] / native,
            "floor": best["floor"] / native if "floor" in best else None,
        })  # fmt: skip
        print(f"{row.name}: {rows[-1]['ours']:.3f}", file=sys.stderr)
    return rows


def guard_rows(seconds: float) -> list[plots.Result]:
    """What comparing 1,000 attributes adds to an apply, in microseconds."""
    rows = []
    for changes, what in ((False, "nothing was set"), (True, "one was set anew")):
        many, few = contenders.guarded(1_000, changes)
        best = measure.best_times({"many": many, "few": few}, seconds)
        rows.append({
            "name": f"1,000 guarded values, {what}, µs", "against": "", "goal": 10.0, "unit": "",
            "is_ratio": False, "native": 0.0, "upstream": 0.0,
            "ours": max(0.0, best["many"] - best["few"]) * 1e6, "floor": None,
        })  # fmt: skip
    return rows


def process_rows(mebibytes: int, times: int) -> list[plots.Result]:
    peak = processes.peak_memory(mebibytes)
    plans = processes.memory_of_plans(sizes.LAYERS)
    import_ms = processes.import_seconds(times) * 1e3
    return [
        {
            "name": f"peak memory of an eager apply, {mebibytes} MiB", "against": "the native call",
            "goal": 1.01, "unit": "{:.0f} MiB", "is_ratio": True, "native": peak["native"] / 1024,
            "upstream": peak["upstream"] / peak["native"], "ours": peak["ours"] / peak["native"],
            "floor": None,
        },
        {
            "name": "memory of the plan of 100 layers", "against": "of four times 25 layers",
            "goal": 1.1, "unit": "{:.3g} MiB", "is_ratio": True, "native": plans["native"] / 2**20,
            "upstream": None, "ours": plans["ours"] / plans["native"], "floor": None,
        },
        {
            "name": "import nnx_wrappers after Flax, ms", "against": "", "goal": 20.0, "unit": "",
            "is_ratio": False, "native": 0.0, "upstream": 0.0, "ours": import_ms, "floor": None,
        },
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=8, help="for each row (default 8)")
    parser.add_argument("--short", action="store_true", help="run everything once; no figures")
    parser.add_argument("--only", default="", help="rows whose name has this text; saves nothing")
    parser.add_argument("--results", type=pathlib.Path, default=RESULTS, help="where to write")
    parser.add_argument(
        "--redraw", action="store_true", help="only draw the plots of what was saved"
    )
    options = parser.parse_args()
    if options.redraw:
        for file in sorted(options.results.glob("*.json")):
            report.redraw(file)
        return
    seconds = 0.0 if options.short else options.seconds
    rows = timed_rows(seconds, options.only)
    real = real_models.real_rows(seconds, options.only)
    if options.only:
        return
    rows += guard_rows(seconds)
    rows += process_rows(16 if options.short else 512, 1 if options.short else 5)
    multiples = (1, 2) if options.short else scaling.SIZES
    results = {
        "machine": report.machine(),
        "rows": rows,
        "real_models": real,
        "counts": counts.count(),
        "scaling": scaling.scaling(seconds / 4, multiples),
    }
    report.show(results)
    report.save(results, options.results)


if __name__ == "__main__":
    main()
