"""The jobs, each of which runs once and serves several tests, and how their arrays are compared."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from launch import PROGRAMS, SAVED, Job, Results, Run

LINES: list[str] = []


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="session")
def run_job(folder: Path) -> Callable[..., Results]:
    """Runs a job to its end, and gives it a line in the table."""

    def run(name: str, runs: list[Run], processes: int, devices: int) -> Results:
        results = Job(folder / name, runs, processes, devices).results()
        LINES.append(f"{name:24} {processes} x {devices} devices {results.seconds:30.1f} s")
        return results

    return run


@pytest.fixture(scope="session")
def two(folder: Path, run_job: Callable[..., Results]) -> Results:
    """Two processes with two devices each: five steps, of which three are saved."""
    runs = [
        Run(f"{program} ours", program, checkpoints=str(folder / f"saved_{program}"), saves=SAVED)
        for program in PROGRAMS
    ]
    return run_job("two", runs, 2, 2)


@pytest.fixture(scope="session")
def two_on_flax(run_job: Callable[..., Results]) -> Results:
    """The same on Flax's bridge, without checkpoints."""
    runs = [Run(f"{program} flax", program, "flax") for program in PROGRAMS]
    return run_job("two_on_flax", runs, 2, 2)


@pytest.fixture(scope="session")
def four(two: Results, folder: Path, run_job: Callable[..., Results]) -> Results:
    """One process with four devices, on either bridge, and from what two processes saved."""
    runs = [Run(f"{program} ours", program) for program in PROGRAMS]
    runs += [Run(f"{program} flax", program, "flax") for program in PROGRAMS]
    runs += [
        Run(f"{program} resumed", program, checkpoints=str(folder / f"saved_{program}"))
        for program in PROGRAMS
    ]
    return run_job("four", runs, 1, 4)


@pytest.fixture(scope="session")
def copy_of(folder: Path) -> Callable[[str, str], str]:
    """A copy of a folder of checkpoints, to go on from."""
    return lambda source, name: str(shutil.copytree(folder / source, folder / name))


@pytest.fixture
def assert_equal(request: pytest.FixtureRequest) -> Callable[..., None]:
    """The same arrays under the same names, bit for bit. Counts them for the table."""

    def compare(mine: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> None:
        assert list(mine) == list(reference) != []
        for name, array in reference.items():
            np.testing.assert_array_equal(mine[name], array, err_msg=name, strict=True)
            assert mine[name].tobytes() == array.tobytes(), name  # signs of zeros, bits of NaNs
        LINES.append(f"{request.node.name:74} {len(reference):5} arrays equal")

    return compare


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("seconds of the jobs without their start, and arrays compared")
    for line in LINES:
        terminalreporter.write_line(line)
