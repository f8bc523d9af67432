"""The results as a table, as JSON, and as a plot."""

import io
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
    """Writes the results as JSON, and the plot, both named after the Python line."""
    folder.mkdir(parents=True, exist_ok=True)
    line = "".join(results["machine"]["python"].split(".")[:2])
    file = folder / f"python{line}.json"
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    redraw(file)


def redraw(file: pathlib.Path) -> None:
    """Draws the plot of results that were saved, beside them."""
    from PIL import Image

    drawn = io.BytesIO()
    plot(json.loads(file.read_text(encoding="utf-8"))).savefig(drawn, dpi=110)
    # Few colours, and no version of matplotlib: a small file, the same for the same figures.
    few = Image.open(drawn).convert("RGB").quantize(32, dither=Image.Dither.NONE)
    few.save(file.with_suffix(".png"), optimize=True)


def is_time(row: Result) -> bool:
    return bool(row["unit"].endswith(" ms"))


KINDS = (
    ("traces of a new function, the plans made before", lambda row: "trace" in row["name"]),
    ("eager calls, the plans made before", lambda row: is_time(row) and "eager" in row["name"]),
    ("conversions of 10,000 variables", lambda row: is_time(row)),
    ("memory", lambda row: True),
)
CONTENDERS = (("upstream", "#8a93a3", "Flax's bridge"), ("ours", "#1f5fd0", "nnx_wrappers"))


def by_kind(rows: list[Result]) -> list[tuple[str, list[Result]]]:
    """The rows that are ratios, grouped by when their time is spent."""
    left = [row for row in rows if row["is_ratio"]]
    groups = []
    for name, belongs in KINDS:
        groups.append((name, [row for row in left if belongs(row)]))
        left = [row for row in left if not belongs(row)]
    return groups


def plot(results: Result) -> tp.Any:
    """A dot for upstream and one for ours on each row, around the line at 1: what each row is
    measured against."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.4, 5.2), layout="constrained")
    place, places, labels = 0.0, [], []
    for kind, rows in by_kind(results["rows"]):
        axes.text(0.0135, place, kind, fontsize=8, fontweight="bold", va="center")
        place += 0.9
        for row in rows:
            ends = sorted(row[key] for key, *_ in CONTENDERS)
            axes.plot(ends, [place] * 2, color="#d5d9e0", linewidth=2, zorder=1)
            for key, colour, _ in CONTENDERS:
                axes.plot(row[key], place, "o", color=colour, markersize=6, zorder=3)
                is_left = row[key] == ends[0]
                axes.annotate(
                    f"{row[key]:.2f}", (row[key], place), (-7 if is_left else 7, 0),
                    textcoords="offset points", ha="right" if is_left else "left", va="center",
                    fontsize=8, color=colour, zorder=2,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
                )  # fmt: skip
            places.append(place)
            labels.append(f"{row['name']}\nagainst {row['against']}")
            place += 1
        place += 0.2
    for _, colour, label in CONTENDERS:
        axes.plot([], [], "o", color=colour, markersize=6, label=label)
    axes.axvline(1, color="#444444", linewidth=1, zorder=0)
    axes.set_xscale("log")
    ticks = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_xlim(0.0125, 22)
    axes.set_ylim(place - 0.4, -0.6)  # the first row on top
    axes.set_yticks(places, labels, fontsize=7)
    axes.tick_params(axis="y", length=0)
    where = results["machine"]
    axes.set_xlabel(
        f"multiple of what the row is measured against; less is better\nPython {where['python']}, "
        f"Flax {where['flax']}, JAX {where['jax']}, {where['cpu']}",
        fontsize=8,
    )
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure
