"""Sharding: the names of axes, and a mesh of four devices.

The tests of `four_devices` are listed one by one. JAX fixes the number of devices when it starts,
so they run in one process of their own.
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

from support.oracle import assert_same, ours, theirs
from support.versions import SHARDING

X = jnp.arange(6.0).reshape(2, 3)
RNGS = {"params": jax.random.key(0), "dropout": jax.random.key(1)}

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
        # Both sides compile the same programs, and hardly optimize them.
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
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


def scanned(bridge, initializer):
    class Step(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            layer = bridge.ToLinen(
                nnx.Linear, args=(3, 3), kwargs={"kernel_init": initializer}, name="layer"
            )
            return layer(x), None

    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            scan = nn.scan(
                Step,
                variable_axes={"params": 1},
                split_rngs={"params": True},
                length=4,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            return scan(name="scan")(x, None)[0]

    return Outer()


def vmapped(bridge, initializer):
    class Outer(nn.Module):
        @nn.compact
        def __call__(self, x):
            many = nn.vmap(
                bridge.ToLinen,
                variable_axes={"params": 1},
                split_rngs={"params": True},
                in_axes=None,
                axis_size=4,
                metadata_params={nn.PARTITION_NAME: "layers"},
            )
            kwargs = {"kernel_init": initializer}
            return many(nnx.Linear, args=(3, 3), kwargs=kwargs, name="scan")(x)

    return Outer()


def kernel_of(variables):
    tree = variables["params"]["scan"]
    return tree.get("layer", tree)["kernel"]


@pytest.mark.parametrize("lift", [scanned, vmapped])
def test_sharding_names_follow_the_axes_of_lifted_transforms(lift, without_eager_sharding):
    def initializer(key, shape, dtype, **_):
        return nnx.initializers.lecun_normal()(key, shape, dtype)

    annotated = nnx.with_partitioning(initializer, ("in", "out"))
    reference = lift(theirs, annotated).init(RNGS, X)
    assert kernel_of(reference).metadata["out_sharding"] == ("in", "out")  # one name too few

    _, variables = lift(ours, annotated).init_with_output(RNGS, X)
    kernel = kernel_of(variables)
    assert kernel.value.shape == (3, 4, 3)
    assert kernel.metadata["out_sharding"] == ("in", "layers", "out")
    assert kernel.get_partition_spec() == jax.sharding.PartitionSpec("in", "layers", "out")
    assert_same(kernel.value, kernel_of(reference).value)

    out, updates = lift(ours, annotated).apply(variables, X, mutable=["params"])
    assert_same(out, lift(ours, annotated).apply(variables, X))
    assert kernel_of(updates).metadata["out_sharding"] == ("in", "layers", "out")


def test_add_axis_and_remove_axis_are_inverses():
    metadata = {"out_sharding": ("a", "b"), "colours": ("red", "blue")}
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), metadata)
    params = {nn.PARTITION_NAME: "new", "colours": "green"}
    added = box.add_axis(1, params)
    assert added.metadata["out_sharding"] == ("a", "new", "b")
    assert added.metadata["colours"] == ("red", "green", "blue")
    assert box.metadata == metadata  # the box itself is as it was
    assert added.remove_axis(1, params).metadata == box.metadata


@pytest.mark.parametrize(
    ("index", "expected"),
    [(0, ("n", "a", "b")), (2, ("a", "b", "n")), (3, ("a", "b", None, "n")), (-1, ("a", "b", "n"))],
)
def test_add_axis_puts_the_name_where_the_axis_is(index, expected):
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), {"out_sharding": ("a", "b")})
    params = {nn.PARTITION_NAME: "n"}
    added = box.add_axis(index, params)
    assert added.metadata["out_sharding"] == expected
    assert added.remove_axis(index, params).metadata["out_sharding"][:2] == ("a", "b")


def test_an_axis_without_a_name_is_unsharded():
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), {"out_sharding": ("a", "b")})
    assert box.add_axis(0, {}).metadata["out_sharding"] == (None, "a", "b")


def test_forms_of_sharding_keep_their_form():
    spec = jax.sharding.PartitionSpec("a", None)
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), {"out_sharding": spec})
    added = box.add_axis(0, {nn.PARTITION_NAME: "n"}).metadata["out_sharding"]
    assert added == jax.sharding.PartitionSpec("n", "a", None)
    assert isinstance(added, jax.sharding.PartitionSpec)


def test_axis_hooks_run_and_may_change_metadata():
    calls = []

    def on_add(variable, index, name):
        calls.append(("add", index, name))
        variable.set_metadata(seen=variable.get_metadata("seen") + 1)

    def on_remove(variable, index, name):
        calls.append(("remove", index, name))

    metadata = {"on_add_axis": (on_add,), "on_remove_axis": on_remove, "seen": 0}
    box = ours.NNXMeta(nnx.Param, jnp.ones(3), metadata)
    added = box.add_axis(0, {nn.PARTITION_NAME: "n"})
    added.remove_axis(0, {nn.PARTITION_NAME: "n"})
    assert calls == [("add", 0, "n"), ("remove", 0, "n")]
    assert added.metadata["seen"] == 1
    assert box.metadata["seen"] == 0


@pytest.mark.parametrize("inside", [True, False], ids=["inside rules", "outside"])
def test_the_usual_recipe_of_logical_axes_shards_boxes_too(inside):
    rules = (("embed", "in"), ("mlp", "out"))
    mesh = jax.make_mesh((1, 1), ("in", "out"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), {SHARDING: ("embed", "mlp")})
    linen_box = nn.LogicallyPartitioned(jnp.ones((2, 3)), names=("embed", "mlp"))
    with nn.logical_axis_rules(rules if inside else ()):
        specs = nn.get_partition_spec({"nnx": box, "linen": linen_box})
        shardings = nn.logical_to_mesh_sharding(specs, mesh, rules)
    assert specs["nnx"] == specs["linen"] == jax.sharding.PartitionSpec("embed", "mlp")
    assert (
        shardings["nnx"].spec == shardings["linen"].spec == jax.sharding.PartitionSpec("in", "out")
    )


def test_a_sharding_on_a_mesh_follows_the_rules_around_the_call():
    mesh = jax.make_mesh((1, 1), ("in", "out"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), {SHARDING: ("embed", "mlp")})
    boxes = {"boxed": box, "text": ours.NNXMeta(nnx.Param, "no array", {})}
    with jax.set_mesh(mesh), nn.logical_axis_rules((("embed", "in"), ("mlp", "out"))):
        shardings = nn.get_sharding(boxes, mesh)
    assert shardings["boxed"] == jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec("in", "out")
    )
    assert shardings["text"] is None


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, jax.sharding.PartitionSpec()),
        ({SHARDING: None}, jax.sharding.PartitionSpec()),
        ({SHARDING: ("a", None)}, jax.sharding.PartitionSpec("a", None)),
        ({SHARDING: jax.sharding.PartitionSpec("a")}, jax.sharding.PartitionSpec("a")),
        ({"sharding": ("a", "b")}, jax.sharding.PartitionSpec("a", "b")),
    ],
    ids=["none", "None", "names", "spec", "deprecated name"],
)
def test_the_partition_spec_of_a_box_is_its_annotation(metadata, expected):
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), metadata)
    assert box.get_partition_spec() == expected
    assert ours.NNXMeta(nnx.Param, "no array", {}).get_partition_spec() is None


def test_an_annotation_without_names_has_no_partition_spec():
    box = ours.NNXMeta(nnx.Param, jnp.ones((2, 3)), {SHARDING: 3})
    with pytest.raises(ValueError, match=r"^NNXMeta.get_partition_spec: expected axis names"):
        box.get_partition_spec()
