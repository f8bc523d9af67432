"""Features: what is on and why not, and what a renamed name of Flax or JAX does to the library.

Its answers are those of Flax's bridge then, or its import is one ImportError.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import flax
import pytest

import nnx_wrappers
from support import ROOT
from support.renaming import RENAMED, TAKE_AWAY

NAMES = [
    "fast_variables",
    "fast_walk",
    "native_scopes",
    "lifted_scopes",
    "lazy_keys",
    "guards",
    "shape_checks",
    "plans",
    "repeated_calls",
    "qwix",
]
FACADE = (ROOT / "src/upstream/facade.cc").read_text(encoding="utf-8")
PRIVATE = (ROOT / "src/upstream/private_names.h").read_text(encoding="utf-8")

# Without these nothing works, so their absence has to be said.
REQUIRED = {
    "flax.linen.module:_context",
    "flax.core.tracers:current_trace",
    "flax.nnx.graphlib:GRAPH_REGISTRY",
    "flax.nnx.graphlib:PYTREE_REGISTRY",
    "flax.nnx.graphlib:get_node_impl",
    "flax.nnx.graphlib:DataElem",
}


def child(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    settings = {"JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **environment}
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return ended


def features_with(disabled: str) -> tuple[dict[str, str | None], str]:
    """What features() says in a process that has the variable, and the warnings."""
    code = (
        "import json, warnings; warnings.simplefilter('always')\n"
        "import nnx_wrappers; print(json.dumps(nnx_wrappers.features()))"
    )
    ended = child(code, NNX_WRAPPERS_DISABLE=disabled)
    return json.loads(ended.stdout), ended.stderr


def test_each_feature_is_on_or_has_a_reason():
    features = nnx_wrappers.features()
    assert list(features) == NAMES
    assert all(reason is None or reason.strip() for reason in features.values())


def test_the_variable_switches_one_feature_off_and_those_that_need_it():
    features, _ = features_with("fast_walk")
    assert features["fast_walk"] == "it is switched off by NNX_WRAPPERS_DISABLE"
    assert features["plans"] == "it needs fast_walk, which is off"
    off = {name for name, reason in features.items() if reason is not None}
    assert off >= {"fast_walk", "plans"}
    assert "lazy_keys" not in off


def test_all_switches_every_feature_off():
    features, _ = features_with("all")
    assert set(features.values()) == {"it is switched off by NNX_WRAPPERS_DISABLE"}


def test_an_unknown_name_is_a_warning_and_the_others_count():
    features, warnings = features_with("fats_walk, qwix")
    assert "NNX_WRAPPERS_DISABLE: expected the names of features" in warnings
    assert "got 'fats_walk'" in warnings
    assert features["qwix"] is not None
    assert features["fast_walk"] is None


# --- names that are gone ---------------------------------------------------------------


def is_private(place: str) -> bool:
    """Whether the place is no public API: it has an underscore, or is below flax.nnx, say."""
    module, _, path = place.partition(":")
    has_underscore = any(part.startswith("_") for part in f"{module}.{path}".split("."))
    return has_underscore or module.startswith(("flax.nnx.", "flax.core."))


# What Flax itself looks up in these places, so that it fails without them: renamed in a copy of it.
USED_BY_FLAX = {
    "flax.nnx:Pytree._graph_node_flatten",
    "flax.nnx.graphlib:HashableMapping",
    "flax.nnx.pytreelib:_graph_node_meta_call",
    "flax.nnx.graphlib:GRAPH_REGISTRY",
    "flax.nnx.tracers:TraceState",
    "flax.nnx.variablelib:HijaxVariable",
}


def private_symbols() -> list[list[str]]:
    """The places of each symbol of the facade that has only private ones."""
    calls = re.findall(
        r"look_(?:up|for)(?:_class)?(?:_since_0_12)?\(\s*\{?((?:\s*\"[^\"]+\",?)+)", FACADE
    )
    symbols = [re.findall(r'"([^"]+)"', call) for call in calls]
    found = [s for s in symbols if all(map(is_private, s)) and s[0].startswith(("flax", "jax"))]
    symbols = dict.fromkeys(tuple(places) for places in found)
    return [list(places) for places in symbols if places[0] not in USED_BY_FLAX]


@pytest.mark.shared("half")
@pytest.mark.parametrize("half", [0, 1])
def test_without_a_private_symbol_answers_are_right_or_the_import_says_what_is_missing(half: int):
    symbols = private_symbols()[half::2]
    assert len(symbols) > 10
    ended = child(TAKE_AWAY, json.dumps(symbols))
    outcomes = json.loads(ended.stdout.splitlines()[-1])
    wrong = {
        name: outcome
        for name, outcome in outcomes.items()
        if outcome != "right" and not outcome.startswith(f"ImportError: nnx_wrappers needs {name},")
    }
    assert wrong == {}
    refused = {name for name, outcome in outcomes.items() if outcome != "right"}
    assert refused >= REQUIRED & set(outcomes)


ATTRIBUTES = [
    *re.findall(r'X\(\w+, "(_\w+)"\)', PRIVATE),
    "HashableMapping",
    "_graph_node_meta_call",
]
GROUPS = [ATTRIBUTES[i::6] for i in range(6)]


@pytest.mark.shared("names")
@pytest.mark.parametrize("names", GROUPS, ids=",".join)
def test_with_private_attributes_renamed_answers_are_right_or_the_import_says_what_is_missing(
    names: list[str], tmp_path: Path
):
    copy = tmp_path / "flax"
    shutil.copytree(
        Path(flax.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so")
    )
    renamed = re.compile(rf"\b({'|'.join(names)})\b")
    changed = 0
    for file in copy.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        new, count = renamed.subn(r"\1_renamed", text)
        changed += count
        if count:
            file.write_text(new, encoding="utf-8")
    assert changed, names
    outcome = child(
        RENAMED, str(tmp_path), PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    )
    said = outcome.stdout.strip()
    assert said == "right" or said.startswith("ImportError: nnx_wrappers needs "), said
