"""The results as tables, as JSON, and as plots."""

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

from benchmarks import plots
from benchmarks.plots import Result


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


def ratio(value: float | None) -> str:
    """The figure, or nothing where there is none."""
    return "" if value is None else f"{value:.3f}"


def verdict(row: Result) -> str:
    if row["goal"] is None:
        return ""
    return "met" if row["ours"] <= row["goal"] else "missed"


def ratios_table(title: str, rows: list[Result]) -> rich.table.Table:
    """One line a row; those of real models also tell whether they are cold or warm."""
    texts = {"work": "name", "against": "against"}
    if any("state" in row for row in rows):
        texts = {"state": "state", **texts}
    made = rich.table.Table(title=title)
    for heading in texts:
        made.add_column(heading)
    for heading in ("", "upstream", "ours", "goal", "", "floor"):
        made.add_column(heading, justify="right")
    for row in rows:
        made.add_row(
            *(row[field] for field in texts.values()), row["unit"].format(row["native"]),
            ratio(row["upstream"]), ratio(row["ours"]), ratio(row["goal"]), verdict(row),
            ratio(row["floor"]),
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
    console.print(
        ratios_table("nnx_wrappers against native code and Flax's bridge", results["rows"])
    )
    title = "Real models: the first trace (cold) and later ones (warm)"
    console.print(ratios_table(title, results["real_models"]))
    console.print(counts_table(results))
    console.print(scaling_table(results))


def save(results: Result, folder: pathlib.Path) -> None:
    """Writes the results as JSON, and the plots, all named after the Python line."""
    folder.mkdir(parents=True, exist_ok=True)
    line = "".join(results["machine"]["python"].split(".")[:2])
    file = folder / f"python{line}.json"
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    redraw(file)


def redraw(file: pathlib.Path) -> None:
    """Draws the plots of results that were saved, beside them."""
    results = json.loads(file.read_text(encoding="utf-8"))
    write_plot(plots.plot(plots.by_kind(results["rows"]), results["machine"]), file)
    if "real_models" in results:
        drawn = plots.plot(plots.by_state(results["real_models"]), results["machine"])
        write_plot(drawn, file.with_stem(f"{file.stem}_real_models"))


def write_plot(figure: tp.Any, file: pathlib.Path) -> None:
    from PIL import Image

    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=110)
    # Few colours, and no version of matplotlib: a small file, the same for the same figures.
    few = Image.open(drawn).convert("RGB").quantize(32, dither=Image.Dither.NONE)
    few.save(file.with_suffix(".png"), optimize=True)
