"""Orbax: what two processes save is restored on any number of devices, and training goes on as if
it had not been interrupted; a save that does not end leaves the step before.
"""

import re
import signal
from pathlib import Path

import numpy as np
import pytest
from launch import LAST, PROGRAMS, SAVED, Job, Run


def since(start: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a run has from a step on, the state after that step included."""
    steps = "|".join(map(str, range(start, LAST + 1)))
    found = {name: a for name, a in arrays.items() if re.match(rf"after ({steps})\b", name)}
    return {**found, "losses": arrays["losses"][start - LAST :]}


@pytest.fixture(scope="module")
def restored_by_two(two, copy_of, run_job):
    """On two processes again, which save the steps that they add."""
    runs = [
        Run(p, p, checkpoints=copy_of(f"saved_{p}", f"added_{p}"), saves=LAST) for p in PROGRAMS
    ]
    return run_job("restored_by_two", runs, 2, 2)


@pytest.fixture(scope="module")
def restored_by_one(two, folder, run_job):
    """On one device, which holds everything."""
    runs = [Run(p, p, checkpoints=str(folder / f"saved_{p}")) for p in PROGRAMS]
    return run_job("restored_by_one", runs, 1, 1)


@pytest.mark.short
@pytest.mark.parametrize("program", PROGRAMS)
def test_four_devices_go_on_from_what_two_processes_saved(program, two, four, assert_equal):
    resumed = four.of(f"{program} resumed")
    assert resumed["first"] == SAVED
    assert_equal(since(SAVED, resumed), since(SAVED, two.of(f"{program} ours")))


@pytest.mark.parametrize("program", PROGRAMS)
def test_two_processes_go_on_from_what_they_saved(
    program, two, restored_by_two, assert_equal, folder
):
    resumed = restored_by_two.of(program)
    assert resumed["first"] == SAVED
    assert_equal(since(SAVED, resumed), since(SAVED, two.of(f"{program} ours")))
    steps = {path.name for path in (folder / f"added_{program}").iterdir()}
    assert steps == {"1", "2", "3", "4", "5"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_one_device_goes_on_from_what_two_processes_saved(
    program, two, restored_by_one, assert_equal
):
    """What is restored is equal; one device adds in another order, so the losses are only close."""
    resumed, reference = restored_by_one.of(program), two.of(f"{program} ours")
    assert resumed["first"] == SAVED
    restored = f"after {SAVED}"
    assert_equal(restored_by_one.of(program, restored), two.of(f"{program} ours", restored))
    losses = since(SAVED, reference)["losses"]
    np.testing.assert_allclose(resumed["losses"], losses, rtol=1e-5)


# When process 0 or 1 dies in the save of step 2 -> the program, and the processes that go on.
MOMENTS = {
    "begun": ("linen", 2),  # process 0, when the folder is there without arrays
    "other": ("nnx", 1),  # process 1, while its arrays are written in the background
    "written": ("linen", 2),  # process 0, when all is written and not yet committed
}
IN_SHORT = [pytest.param("other", marks=pytest.mark.short), "begun", "written"]


@pytest.fixture(scope="module")
def die(folder):
    """Lets a process die in a save of a program; returns where the checkpoints are."""

    def start(moment: str, program: str) -> Path:
        checkpoints = folder / f"killed_{moment}"
        run = Run("killed", program, checkpoints=str(checkpoints), saves=LAST, killed=moment)
        job = Job(folder / f"job_{moment}", [run], 2, 2)
        assert -signal.SIGKILL in job.wait(), job.said()
        return checkpoints

    return start


@pytest.mark.parametrize("moment", IN_SHORT)
def test_a_process_killed_in_a_save_leaves_the_step_before(
    moment, two, die, run_job, copy_of, assert_equal
):
    program, processes = MOMENTS[moment]
    checkpoints = die(moment, program)
    there = {path.name for path in checkpoints.iterdir()}
    assert "1" in there
    assert "2" not in there
    assert [name for name in there if name.startswith("2.")], "the save had not begun"
    again = copy_of(checkpoints.name, f"{checkpoints.name}_again")
    runs = [Run(program, program, checkpoints=again, saves=LAST)]
    resumed = run_job(f"after {moment}", runs, processes, 4 // processes).of(program)
    assert resumed["first"] == 1
    assert_equal(since(1, resumed), since(1, two.of(f"{program} ours")))
    assert {path.name for path in Path(again).iterdir()} == {"1", "2", "3", "4", "5"}
