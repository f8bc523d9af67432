"""Checkpoints on disk: formats, atomic writing, bounded memory, hostile files."""

import fcntl
import os
import signal
import subprocess
import sys
import typing as tp
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx, serialization
from flax.training import checkpoints
from flax.training.train_state import TrainState

from nnx_wrappers import compare_checkpoints, convert_checkpoint, inspect_checkpoint
from nnx_wrappers.checkpoint import CheckpointError

# Hardly depends on the line of Python: one of two that divide the work runs it.
pytestmark = pytest.mark.shared()

TX = optax.chain(optax.clip(1.0), optax.adam(1e-3))


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])


class State(TrainState):
    batch_stats: tp.Any


def linen_state() -> State:
    def leaf(number: int, *shape: int) -> jax.Array:
        return jnp.arange(number, number + np.prod(shape), dtype=jnp.float32).reshape(shape)

    layer = {"kernel": leaf(50, 2, 4, 4), "bias": leaf(90, 2, 4)}
    params = {
        "first": {"kernel": leaf(0, 3, 4), "bias": leaf(20, 4)},
        "norm": {"scale": leaf(30, 4), "bias": leaf(40, 4)},
        "layers": layer,
    }
    stats = {"norm": {"mean": leaf(110, 4), "var": leaf(120, 4)}}
    state = State.create(apply_fn=None, params=params, tx=TX, batch_stats=stats)
    return state.apply_gradients(grads=jax.tree.map(lambda x: x / 100, params))


def make_pair() -> tuple[nnx.Module, nnx.Optimizer]:
    model = Net(nnx.Rngs(0))
    return model, nnx.Optimizer(model, TX, wrt=nnx.Param)


def save_orbax(path: Path, tree: tp.Any) -> Path:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, tree)
    return path


def save_composite(path: Path, tree: tp.Any) -> Path:
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        items = {name: ocp.args.StandardSave(tree[name]) for name in tree}
        checkpointer.save(path, ocp.args.Composite(**items, notes=ocp.args.JsonSave({"a": 1})))
    return path


def save_steps(path: Path, tree: tp.Any) -> Path:
    with ocp.CheckpointManager(path) as manager:
        manager.save(9, args=ocp.args.StandardSave({"params": {"old": jnp.ones(2)}}))
        manager.save(10, args=ocp.args.StandardSave(tree))
        manager.wait_until_finished()
    return path


def save_msgpack(path: Path, tree: tp.Any) -> Path:
    path.write_bytes(serialization.to_bytes(tree))
    return path


def as_dicts(state: State) -> dict[str, tp.Any]:
    return {
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": state.opt_state,
        "step": {"value": state.step},
    }


FORMATS: dict[str, tuple[Callable[[Path, State], Path], str]] = {
    "standard": (save_orbax, "Orbax"),
    "composite": (lambda p, s: save_composite(p, as_dicts(s)), "Orbax composite"),
    "steps": (save_steps, "Orbax, step 10 of 2"),
    "msgpack": (save_msgpack, "flax.serialization msgpack"),
    "flax.training": (
        lambda p, s: (checkpoints.save_checkpoint(p, s, 7), p)[1],
        "Orbax, step 7 of 1",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def standard(folder: Path) -> Path:
    return save_orbax(folder / "standard", linen_state())


@pytest.mark.parametrize("name", FORMATS)
def test_a_state_of_each_format_goes_into_nnx_and_back(
    name: str, tmp_path: Path, standard: Path
) -> None:
    save, form = FORMATS[name]
    source = save(tmp_path / "source", linen_state())
    assert inspect_checkpoint(source).format == form
    report = convert_checkpoint(source, tmp_path / "nnx", make_pair)
    assert report.counts() == {"matched": 15, "reshaped": 12, "cast": 1, "rng": 2}
    convert_checkpoint(tmp_path / "nnx", tmp_path / "linen", linen_state)
    assert compare_checkpoints(standard, tmp_path / "linen", values="exact").ok
    assert compare_checkpoints(tmp_path / "nnx", source, values="exact").ok
    if name == "standard":
        restored_as_users_do(tmp_path)


def restored_as_users_do(folder: Path) -> None:
    """With targets, both of them."""
    model, optimizer = make_pair()
    state = linen_state()
    with ocp.StandardCheckpointer() as checkpointer:
        target = {"model": nnx.state(model), "optimizer": nnx.state(optimizer)}
        found = checkpointer.restore(folder / "nnx", target)
        linen = checkpointer.restore(folder / "linen", state)
    nnx.update(model, found["model"])
    nnx.update(optimizer, found["optimizer"])
    assert np.array_equal(model.layers[1].kernel[...], state.params["layers"]["kernel"][1])
    mu = optimizer.opt_state[1][0].mu["layers"][1]["kernel"][...]
    assert np.array_equal(mu, state.opt_state[1][0].mu["layers"]["kernel"][1])
    assert jax.tree.structure(linen) == jax.tree.structure(state)
    assert jax.tree.all(jax.tree.map(np.array_equal, linen, state))


@pytest.mark.parametrize("how", ["state", "pure"])
def test_what_an_nnx_state_saves_is_read(how: str, tmp_path: Path) -> None:
    model, optimizer = make_pair()
    states = {"model": nnx.state(model), "optimizer": nnx.state(optimizer)}
    if how == "pure":
        states = {name: nnx.to_pure_dict(state) for name, state in states.items()}
    source = save_orbax(tmp_path / "source", states)
    inspection = inspect_checkpoint(source)
    assert inspection.kind == "nnx"
    assert inspection.groups["rng"][0] == 2
    convert_checkpoint(source, tmp_path / "nnx", make_pair)
    assert compare_checkpoints(source, tmp_path / "nnx", values="exact").ok
    with ocp.StandardCheckpointer() as checkpointer:
        again = checkpointer.restore(
            tmp_path / "nnx", {"model": nnx.state(model), "optimizer": nnx.state(optimizer)}
        )
    key = again["model"]["drop"]["rngs"]["key"].get_value()
    assert key == model.drop.rngs.key.get_value()


def test_a_dry_run_writes_nothing_and_initial_values_are_the_target_s(
    standard: Path, tmp_path: Path
) -> None:
    variables = {"params": {"first": linen_state().params["first"]}}
    source = save_msgpack(tmp_path / "source", variables)
    make = lambda: Net(nnx.Rngs(3))  # noqa: E731
    report = convert_checkpoint(source, tmp_path / "to", make, missing="init", dry_run=True)
    assert report.counts()["initial"] == 8
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["source"]
    convert_checkpoint(source, tmp_path / "to", make, missing="init", rng_counts=4)
    with ocp.StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(tmp_path / "to", nnx.state(make()))
    assert np.array_equal(found["first"]["bias"].get_value(), variables["params"]["first"]["bias"])
    assert np.allclose(found["layers"][0]["kernel"].get_value(), make().layers[0].kernel[...])
    assert int(found["drop"]["rngs"]["count"].get_value()) == 4


def test_an_existing_destination_is_refused_and_a_failed_run_leaves_nothing(
    standard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "to").mkdir()
    with pytest.raises(CheckpointError, match="exists already"):
        convert_checkpoint(standard, tmp_path / "to", make_pair)
    with pytest.raises(CheckpointError, match="does not fit the target"):
        convert_checkpoint(standard, tmp_path / "other", lambda: Net(nnx.Rngs(0)))
    monkeypatch.setattr("nnx_wrappers.checkpoint._write.checksum", lambda value: id(object()))
    with pytest.raises(CheckpointError, match="came back from the disk as others"):
        convert_checkpoint(standard, tmp_path / "other", make_pair)
    assert [entry.name for entry in tmp_path.iterdir()] == ["to"]


KILLED = """
import os, signal
from checkpoint import test_disk
from nnx_wrappers import convert_checkpoint
convert_checkpoint({source!r}, {to!r}, test_disk.make_pair,
                   progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


def python(code: str, **more: tp.Any) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, **more
    )


def test_what_a_killed_run_leaves_is_cleared_by_the_next(standard: Path, tmp_path: Path) -> None:
    to = tmp_path / "to"
    done = python(KILLED.format(source=str(standard), to=str(to)))
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = tmp_path / ".to.converting"
    assert (left / "checkpoint.partial_save").exists() or any(left.iterdir())
    assert not to.exists()
    with pytest.raises(CheckpointError, match="was not finished"):
        inspect_checkpoint(left)
    lock = os.open(left / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(CheckpointError, match="another process is writing"):
        convert_checkpoint(standard, to, make_pair)
    os.close(lock)
    convert_checkpoint(standard, to, make_pair)
    assert [entry.name for entry in tmp_path.iterdir()] == ["to"]
    assert compare_checkpoints(standard, to, values="exact").ok


MEMORY = """
import resource
import jax.numpy as jnp
from flax import nnx
from nnx_wrappers import convert_checkpoint

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

class Net(nnx.Module):
    def __init__(self, length):
        self.layers = nnx.List([nnx.Dict(w=nnx.Param(jnp.zeros((length, 256)))) for _ in range(8)])

convert_checkpoint({small!r}, {small!r} + "-nnx", lambda: Net(2))
before = peak()
convert_checkpoint({large!r}, {large!r} + "-nnx", lambda: Net({length}))
print(peak() - before)
"""
LEAF = 16  # MiB
LENGTH = LEAF * 2**20 // (256 * 4)


def test_memory_is_bounded_by_the_largest_leaf(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, length in (("small", 2), ("large", LENGTH)):
        layers = {
            f"layers_{i}": {"w": rng.standard_normal((length, 256), dtype=np.float32)}
            for i in range(8)
        }
        save_orbax(tmp_path / name, {"params": layers})
    paths = {name: str(tmp_path / name) for name in ("small", "large")}
    done = python(MEMORY.format(length=LENGTH, **paths))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 5 * LEAF < 8 * LEAF  # the whole is eight leaves


SHARDED = """
from pathlib import Path
import jax, numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec as P
from nnx_wrappers import convert_checkpoint

mesh = jax.make_mesh((2,), ("x",))
w = jax.device_put(np.arange(16.0, dtype=np.float32).reshape(4, 4), NamedSharding(mesh, P("x")))
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save({folder!r} + "/linen", {{"params": {{"w": w}}}})
make = lambda: nnx.Dict(w=nnx.Param(jax.numpy.zeros((4, 4))))
convert_checkpoint({folder!r} + "/linen", {folder!r} + "/nnx", make)
metadata = ocp.PyTreeCheckpointHandler().metadata(Path({folder!r}, "nnx"))
print(metadata.tree["w"]["value"].sharding.partition_spec)
"""


def test_a_sharded_array_stays_sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    done = python(SHARDED.format(folder=str(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert "'x'" in done.stdout or '"x"' in done.stdout


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def without_metadata(path: Path) -> None:
    (path / "_METADATA").unlink()


def garbled_metadata(path: Path) -> None:
    (path / "_METADATA").write_text("{")


HOSTILE: dict[str, tuple[Callable[[Path, tp.Any], Path], Callable[[Path], tp.Any], str]] = {
    "a truncated msgpack": (save_msgpack, cut_off, "no msgpack checkpoint of Flax, or is cut off"),
    "another file": (
        save_msgpack,
        lambda p: p.write_bytes(b"\x93NUMPY" * 9),
        "no msgpack checkpoint",
    ),
    "an empty file": (save_msgpack, lambda p: p.write_bytes(b""), "no msgpack checkpoint of Flax"),
    "metadata missing": (save_orbax, without_metadata, "is no checkpoint"),
    "metadata garbled": (save_orbax, garbled_metadata, "cannot be read as an Orbax checkpoint"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_checkpoint_is_one_clear_error(name: str, tmp_path: Path) -> None:
    save, harm, text = HOSTILE[name]
    source = save(tmp_path / "source", linen_state())
    harm(source)
    with pytest.raises(CheckpointError, match=text):
        convert_checkpoint(source, tmp_path / "to", make_pair)
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("lost", ["d/*", "manifest.ocdbt"])
def test_lost_files_of_orbax_are_one_clear_error(lost: str, tmp_path: Path) -> None:
    for file in list(save_orbax(tmp_path / "source", linen_state()).rglob(lost)):
        file.unlink()
    # In a process of its own: Orbax leaves tasks that failed behind.
    done = python(KILLED.format(source=str(tmp_path / "source"), to=str(tmp_path / "to")))
    assert done.returncode == 1
    assert "CheckpointError" in done.stderr
    assert "cannot be read as an Orbax checkpoint" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_a_path_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        inspect_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="is no checkpoint"):
        inspect_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"must be written as package\.module:function"):
        convert_checkpoint(
            save_msgpack(tmp_path / "a", {"params": {"w": jnp.ones(2)}}), "b", "json"
        )


@pytest.mark.parametrize("tolerance", ["exact", 0.5, 2])
def test_values_are_compared_exactly_or_within_a_tolerance(
    tolerance: str | float, tmp_path: Path
) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        save_msgpack(tmp_path / name, {"params": {"w": jnp.full(3, value), "v": jnp.ones(2)}})
    assert compare_checkpoints(tmp_path / "a", tmp_path / "b").ok
    report = compare_checkpoints(tmp_path / "a", tmp_path / "b", values=tolerance)
    assert report.ok == (tolerance == 2)
    assert [row.target for row in report.of("differs")] == [] if report.ok else ["params/w"]


def test_a_part_of_the_leaves_is_compared(standard: Path, tmp_path: Path) -> None:
    other = linen_state()
    other = other.replace(step=other.step + 1)
    source = save_orbax(tmp_path / "other", other)
    assert not compare_checkpoints(standard, source, values="exact").ok
    assert compare_checkpoints(standard, source, values="exact", only="params").counts() == {
        "matched": 6
    }
    report = compare_checkpoints(standard, source, values="exact", only="opt")
    assert report.counts() == {"matched": 13, "differs": 1}


@pytest.mark.parametrize("inside", [False, True], ids=["a holder", "a part of the model"])
def test_a_lone_key_named_model_is_what_the_target_says(inside: bool, tmp_path: Path) -> None:
    source = save_orbax(
        tmp_path / "source", {"model": nnx.state(nnx.Linear(3, 4, rngs=nnx.Rngs(0)))}
    )

    def make() -> nnx.Module:
        layer = nnx.Linear(3, 4, rngs=nnx.Rngs(1))
        return nnx.Dict(model=layer) if inside else layer

    assert convert_checkpoint(source, tmp_path / "to", make).counts() == {"matched": 2}
    assert compare_checkpoints(source, tmp_path / "to", values="exact").ok
