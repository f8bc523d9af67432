"""The results as plots: a row for each line of a table."""

import typing as tp

Result = dict[str, tp.Any]
Group = tuple[str, list[Result]]


def is_time(row: Result) -> bool:
    return bool(row["unit"].endswith(" ms"))


KINDS = (
    ("traces of a new function, the plans made before", lambda row: "trace" in row["name"]),
    ("eager calls, the plans made before", lambda row: is_time(row) and "eager" in row["name"]),
    ("conversions of 10,000 variables", lambda row: is_time(row)),
    ("memory", lambda row: True),
)
CONTENDERS = (("upstream", "#8a93a3", "Flax's bridge"), ("ours", "#1f5fd0", "nnx_wrappers"))


def by_kind(rows: list[Result]) -> list[Group]:
    """The rows that are ratios, grouped by when their time is spent."""
    left = [row for row in rows if row["is_ratio"]]
    groups = []
    for name, belongs in KINDS:
        groups.append((name, [row for row in left if belongs(row)]))
        left = [row for row in left if not belongs(row)]
    return groups


def by_state(rows: list[Result]) -> list[Group]:
    """The rows of real models, what is cold first."""
    states = (
        ("the first time: nothing is remembered", "cold"),
        ("later times: the same has run before", "warm"),
    )
    return [(name, [row for row in rows if row["state"] == state]) for name, state in states]


def plot(groups: list[Group], where: tp.Mapping[str, str]) -> tp.Any:
    """A dot for upstream and one for ours on each row, around the line at 1: what each row is
    measured against."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    count = sum(len(rows) for _, rows in groups)
    figure, axes = pyplot.subplots(figsize=(8.4, 1.2 + count / 3), layout="constrained")
    place, places, labels = 0.0, [], []
    for kind, rows in groups:
        axes.text(0.0135, place, kind, fontsize=8, fontweight="bold", va="center")
        place += 0.9
        for row in rows:
            # Flax's bridge has no plans to measure.
            contenders = [one for one in CONTENDERS if row[one[0]] is not None]
            ends = sorted(row[key] for key, *_ in contenders)
            axes.plot([ends[0], ends[-1]], [place] * 2, color="#d5d9e0", linewidth=2, zorder=1)
            for key, colour, _ in contenders:
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
    axes.set_xlabel(
        f"multiple of what the row is measured against; less is better\nPython {where['python']}, "
        f"Flax {where['flax']}, JAX {where['jax']}, {where['cpu']}",
        fontsize=8,
    )
    figure.legend(loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure
