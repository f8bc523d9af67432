"""The second table: what a bridge costs in real models, the first trace and later ones.

Each module of rows has a tuple `ROWS` of `RealRow`; MODULES is the one place that names them."""

import sys

import nnx_wrappers
from benchmarks import (
    measure,
    real_models_cold,
    real_models_linear,
    real_models_robot,
    real_models_scanned,
)
from benchmarks.plots import Result

MODULES = (real_models_cold, real_models_scanned, real_models_robot, real_models_linear)


def real_rows(seconds: float, only: str) -> list[Result]:
    """The rows whose name has this text, measured."""
    rows = []
    for row in (row for module in MODULES for row in module.ROWS if only in row.name):
        forget = nnx_wrappers.clear_caches if row.state == "cold" else None
        native, ratios = measure.paired_ratios(row.build(), seconds, forget)
        rows.append({
            "name": row.name, "state": row.state, "against": row.against, "unit": "{:.3g} ms",
            "is_ratio": True, "native": native * 1e3, "upstream": ratios.get("upstream"),
            "ours": ratios["ours"], "goal": row.limit(ratios), "floor": ratios.get("floor"),
        })  # fmt: skip
        print(f"{row.state} {row.name}: {ratios['ours']:.3f}", file=sys.stderr)
    return rows
