"""One process of a job: `worker.py JOB RESULTS`. The launcher writes the job, and starts it.

A job is a list of runs. A run trains a program, from its newest checkpoint if it has any, and may
save steps. Process 0 writes what all devices hold together, after each step, to RESULTS.
"""

import asyncio
import contextlib
import faulthandler
import functools
import json
import os
import signal
import sys
import time
import typing as tp
from pathlib import Path

import jax
import numpy as np

KILLED_AT = 2  # the step whose save does not end


def connect(processes: int) -> None:
    """Joins the other processes, before JAX looks for devices."""
    if processes > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            os.environ["COORDINATOR"], processes, int(os.environ["RANK"]), initialization_timeout=60
        )


def named_leaves(tree: tp.Any) -> dict[str, tp.Any]:
    """The arrays of a state by path, keys as the numbers that they are."""

    def numbers(leaf: jax.Array) -> jax.Array:
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(leaf) if is_key else leaf

    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): numbers(leaf) for path, leaf in leaves}


def whole(tree: tp.Any) -> tp.Any:
    """The arrays of all processes, in NumPy."""
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def place_of(leaf: jax.Array) -> str:
    """How an array lies: its spec, and the shape on each device."""
    spec = tuple(getattr(leaf.sharding, "spec", ()))
    while spec and spec[-1] is None:
        spec = spec[:-1]
    return f"{spec} {leaf.sharding.shard_shape(leaf.shape)} of {leaf.shape}"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(moment: str) -> type:
    """The temporary folder of a checkpoint, in which process 0 dies at a moment of the save."""
    from orbax.checkpoint.path import atomicity

    class Killed(atomicity.AtomicRenameTemporaryPath):
        async def create(self) -> tp.Any:
            path = await super().create()
            if self.get_final().name == str(KILLED_AT) and moment == "begun":
                die()
            return path

        async def finalize(self) -> None:
            if self.get_final().name == str(KILLED_AT):
                if moment == "written":
                    die()
                await asyncio.sleep(600)  # "other": process 1 dies, and the launcher ends this one
            await super().finalize()

    return Killed


def manager_of(run: dict[str, tp.Any]) -> tp.Any:
    """Orbax's manager of the checkpoints of a run, if it has any."""
    import orbax.checkpoint as ocp

    if not run["checkpoints"]:
        return contextlib.nullcontext()
    moment = run["killed"]
    options = ocp.CheckpointManagerOptions(
        temporary_path_class=killed(moment) if moment else None,
        cleanup_tmp_directories=not moment,
    )
    return ocp.CheckpointManager(run["checkpoints"], options=options)


@functools.cache
def program_of(name: str, bridge: str) -> tp.Any:
    import programs

    return programs.PROGRAMS[name](bridge, programs.make_mesh())


def train(run: dict[str, tp.Any]) -> dict[str, np.ndarray]:
    """Trains to the last step of the run. What was there after each step, and how it lay."""
    import orbax.checkpoint as ocp

    import programs

    program, found, losses = program_of(run["program"], run["bridge"]), {}, []
    with manager_of(run) as manager:
        first = manager.latest_step() or 0 if manager else 0
        if first:
            state = manager.restore(first, args=ocp.args.StandardRestore(program.target()))
        else:
            state = program.init()
        found[f"{first}"] = whole(named_leaves(state))
        for step in range(first + 1, run["steps"] + 1):
            state, loss = program.step(state, programs.batch_of(step, programs.make_mesh()))
            losses.append(whole(loss))
            found[f"{step}"] = whole(named_leaves(state))
            if step <= run["saves"]:
                manager.save(step, args=ocp.args.StandardSave(state))
                if run["killed"] == "other" and step == KILLED_AT and jax.process_index() == 1:
                    die()
    arrays = {f"after {at}{path}": a for at, tree in found.items() for path, a in tree.items()}
    places = {f"place{path}": place_of(leaf) for path, leaf in named_leaves(state).items()}
    named = {**arrays, **places, "first": first, "losses": losses}
    return {name: np.asarray(value) for name, value in named.items()}


def main(job_file: str, results: str) -> None:
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    faulthandler.dump_traceback_later(job["seconds"], exit=True)  # also if the launcher is gone
    processes = int(os.environ["PROCESSES"])
    connect(processes)
    from flax import linen as nn

    import programs

    devices = processes * job["devices"]
    assert (jax.process_count(), jax.device_count()) == (processes, devices)
    named, start = {}, time.perf_counter()
    with jax.set_mesh(programs.make_mesh()), nn.logical_axis_rules(programs.RULES):
        for run in job["runs"]:
            named.update({f"{run['name']}|{name}": a for name, a in train(run).items()})
    named["seconds"] = np.asarray(time.perf_counter() - start)
    if jax.process_index() == 0:
        np.savez(results, **named)


if __name__ == "__main__":
    main(*sys.argv[1:])
