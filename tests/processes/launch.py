"""Starts the processes of a job, waits for them, and reads what they found."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PROGRAMS = ("linen", "nnx")
SAVED, LAST = 3, 5  # the last step that is saved, and the last one
WORKER = Path(__file__).with_name("worker.py")


@dataclasses.dataclass
class Run:
    """A program to train; see worker.py."""

    name: str
    program: str
    bridge: str = "ours"
    steps: int = LAST
    checkpoints: str = ""
    saves: int = 0  # the last step that is saved
    killed: str = ""


class Results:
    """The arrays that a job found, by run."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as arrays:
            self.all = dict(arrays)
        self.seconds = float(self.all.pop("seconds"))

    def of(self, run: str, prefix: str = "") -> dict[str, np.ndarray]:
        """What a run found under the names that begin with the prefix."""
        start = f"{run}|{prefix}"
        return {name[len(run) + 1 :]: a for name, a in self.all.items() if name.startswith(start)}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Processes:
    """Processes with some devices each, which run the same program with different environments."""

    def __init__(
        self, folder: Path, command: list[str | Path], processes: int, devices: int, seconds: int
    ) -> None:
        self.folder = folder
        self.seconds = seconds
        folder.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "COORDINATOR": f"127.0.0.1:{free_port()}",
            "PROCESSES": str(processes),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            # Jobs on as many devices compile the same programs.
            "JAX_COMPILATION_CACHE_DIR": str(folder.parent / f"programs_{processes}_{devices}"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        }
        self.children = [
            self.start(command, rank, {**environment, "RANK": str(rank)})
            for rank in range(processes)
        ]

    def start(
        self, command: list[str | Path], rank: int, environment: dict[str, str]
    ) -> subprocess.Popen:
        with (self.folder / f"said_{rank}").open("w", encoding="utf-8") as said:
            return subprocess.Popen(
                [sys.executable, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )

    def wait(self) -> list[int]:
        """Their exit codes. One that fails ends the others, and so does the end of the time."""
        end = time.monotonic() + self.seconds
        try:
            while time.monotonic() < end:
                codes = [child.poll() for child in self.children]
                if any(codes) or None not in codes:
                    return [code for code in codes if code is not None]
                time.sleep(0.05)
            raise AssertionError(f"not done after {self.seconds} seconds\n{self.said()}")
        finally:
            for child in self.children:
                child.kill()
                child.wait()

    def said(self) -> str:
        """The ends of what the processes wrote."""
        texts = [
            f"---- process {rank}, exit code {child.poll()}\n"
            + (self.folder / f"said_{rank}").read_text(encoding="utf-8", errors="replace")[-6000:]
            for rank, child in enumerate(self.children)
        ]
        return "\n".join(texts)


class Job(Processes):
    """Processes that run the same list of programs."""

    def __init__(
        self, folder: Path, runs: list[Run], processes: int, devices: int, seconds: int = 300
    ) -> None:
        job = {
            "devices": devices,
            "seconds": seconds,
            "runs": [dataclasses.asdict(run) for run in runs],
        }
        folder.mkdir()
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [WORKER, folder / "job.json", folder / "results.npz"]
        super().__init__(folder, command, processes, devices, seconds)

    def results(self) -> Results:
        codes = self.wait()
        assert not any(codes), self.said()
        return Results(self.folder / "results.npz")
