"""Sharding under a mesh of four devices: the tests of `four_devices`, one by one.

JAX fixes the number of devices when it starts, so they run in one process of their own.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from oracle import ours, theirs

CASES = sorted(Path(__file__).with_name("four_devices").glob("*_cases.py"))
NAMES = [
    node.name
    for path in CASES
    for node in ast.parse(path.read_text(encoding="utf-8")).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What went wrong in each test, by its name: nothing if it passed."""
    folder = tmp_path_factory.mktemp("sharding")
    report = folder / "report.xml"
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        # Both sides compile the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.03",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = [sys.executable, "-m", "pytest", *map(str, CASES), "-q", f"--junitxml={report}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert report.exists(), done.stdout + done.stderr
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = case.attrib["name"].partition("[")[0]
        # A child is a failure, an error or a skip: no test may be skipped here.
        texts = [f"{case.attrib['name']}\n{child.text}" for child in case]
        found.setdefault(name, []).extend(texts)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_under_four_devices(results: dict[str, list[str]], name: str) -> None:
    assert name in results, f"{name} did not run"
    assert not results[name], "\n".join(results[name])


def test_specs_of_boxed_variables_are_known_before_they_are_made():
    class Annotated(nnx.Module):
        def __init__(self, *, rngs):
            kernel = nnx.initializers.lecun_normal()(rngs.params(), (4, 8))
            self.kernel = nnx.Param(kernel, out_sharding=("in", "out"))

        def __call__(self, x):
            return x @ self.kernel[...]

    auto = (jax.sharding.AxisType.Auto,) * 2
    with jax.set_mesh(jax.make_mesh((1, 1), ("in", "out"), axis_types=auto)):
        mine, reference = (
            jax.eval_shape(bridge.ToLinen(Annotated).init, jax.random.key(0), jnp.ones((1, 4)))
            for bridge in (ours, theirs)
        )
        spec = jax.sharding.PartitionSpec("in", "out")
        assert nn.get_partition_spec(mine) == {"params": {"kernel": spec}}
        with pytest.raises(TypeError, match="sharding on the input"):
            nn.get_partition_spec(reference)  # it would place what has no place yet
    assert nn.get_partition_spec(mine) == {"params": {"kernel": spec}}
    with pytest.raises(ValueError, match="mesh"):
        nn.get_partition_spec(reference)
