"""A checkpoint that MaxText saved on its own wrappers goes on with this library, and the
other way round."""

import shutil
from pathlib import Path

import pytest
import training


@pytest.mark.parametrize("wiring", training.WIRINGS)
def test_a_checkpoint_is_restored_by_the_other_side(wiring: str, tmp_path: Path) -> None:
    model = training.Model(wiring, "llama2", scan=True)
    checkpoints = {"enable_checkpointing": True, "async_checkpointing": False}
    saved = {
        side: training.start(side, model, tmp_path / side, steps=1, **checkpoints)
        for side in training.SIDES
    }
    for saving in saved.values():
        saving.wait()

    def go_on(saver: training.Side, restorer: training.Side) -> training.Training:
        folder = tmp_path / f"{saver}-{restorer}"
        shutil.copytree(saved[saver].folder / "run", folder / "run")
        return training.start(restorer, model, folder, steps=3, **checkpoints)

    for saver in training.SIDES:
        both = [go_on(saver, restorer) for restorer in training.SIDES]
        for one in both:
            one.wait()
            assert (
                "restoring from this run's directory step 0" in (one.folder / "log.txt").read_text()
            )
        same, other = (one.metrics() for one in both)
        assert len(same) == 2  # steps 1 and 2
        assert same == other
