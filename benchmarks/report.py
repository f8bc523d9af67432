"""The results as a table, as JSON, and as a plot."""

import json
import os
import pathlib
import platform
import typing as tp

import flax
import jax
import rich.console
import rich.table

Result = dict[str, tp.Any]


def machine() -> dict[str, str]:
    """Where the figures come from."""
    cpu = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(": ")[1] for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "flax": flax.__version__,
        "jax": jax.__version__,
    }


def table(results: Result) -> rich.table.Table:
    made = rich.table.Table(title="nnx_wrappers against native code and Flax's bridge")
    for heading in ("work", "against", "", "upstream", "ours", "goal", "", "floor"):
        made.add_column(heading, justify="left" if heading in ("work", "against") else "right")
    for row in results["rows"]:
        met = "met" if row["ours"] <= row["goal"] else "missed"
        made.add_row(
            row["name"], row["against"], row["unit"].format(row["native"]),
            f"{row['upstream']:.3f}", f"{row['ours']:.3f}", f"{row['goal']:.2f}", met,
            f"{row['floor']:.3f}" if row["floor"] else "",
        )  # fmt: skip
    return made


def counts_table(results: Result) -> rich.table.Table:
    made = rich.table.Table(title="Counts")
    made.add_column("what")
    made.add_column("", justify="right")
    for name, value in results["counts"].items():
        made.add_row(name, str(value))
    return made


def scaling_table(results: Result) -> rich.table.Table:
    made = rich.table.Table(title="The bridge alone, by the size of the model")
    for heading in ("work", "variables", "ms", "µs a variable"):
        made.add_column(heading, justify="left" if heading == "work" else "right")
    for entry in results["scaling"]:
        made.add_row(
            entry["work"], str(entry["variables"]), f"{entry['seconds'] * 1e3:.3f}",
            f"{entry['seconds'] * 1e6 / entry['variables']:.2f}",
        )  # fmt: skip
    return made


def show(results: Result) -> None:
    console = rich.console.Console(width=110)
    console.print(", ".join(f"{key} {value}" for key, value in results["machine"].items()))
    console.print(table(results))
    console.print(counts_table(results))
    console.print(scaling_table(results))


def save(results: Result, folder: pathlib.Path) -> None:
    """Writes results.json and the plot, as SVG and PNG, named after the Python line."""
    folder.mkdir(parents=True, exist_ok=True)
    line = "".join(results["machine"]["python"].split(".")[:2])
    text = json.dumps(results, indent=2) + "\n"
    (folder / f"python{line}.json").write_text(text, encoding="utf-8")
    figure = plot(results)
    for ending in ("svg", "png"):
        figure.savefig(folder / f"python{line}.{ending}", dpi=110, metadata=FIXED.get(ending))


FIXED: dict[str, tp.Any] = {"svg": {"Date": None}}  # the same figures, the same file


def plot(results: Result) -> tp.Any:
    """Upstream and ours as multiples of what each row is measured against."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "nnx_wrappers"
    from matplotlib import pyplot

    rows = [row for row in results["rows"] if row["is_ratio"]][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 0.55 * len(rows) + 1.4), layout="constrained")
    places = range(len(rows))
    for key, shift, colour, label in (
        ("upstream", 0.2, "#b0b7c3", "Flax's bridge"),
        ("ours", -0.2, "#2a6fdb", "nnx_wrappers"),
    ):
        bars = axes.barh([p + shift for p in places], [r[key] for r in rows], 0.38, color=colour)
        axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=8)
        bars.set_label(label)
    axes.axvline(1, color="#444444", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(0.01, 20)
    axes.set_yticks(places, [f"{r['name']}\nagainst {r['against']}" for r in rows], fontsize=8)
    where = results["machine"]
    axes.set_xlabel(f"time, as a multiple (Python {where['python']}, Flax {where['flax']}, "
                    f"JAX {where['jax']})")  # fmt: skip
    axes.legend(loc="lower right", fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
