"""Several processes stop together, name the one that died, and go on where the run was."""

import re

import pytest

from tests import processes
from tests.training import survival_run
from tests.training.survival_run import STEPS, Run, trace, working, write_home


@pytest.fixture(scope="module")
def context():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield processes.context()


def test_ranks_stop_together_and_a_dead_one_is_named_and_started_again(context, tmp_path):
    """One run is told to stop, and goes on; in the other a rank is killed, and torchrun starts both again."""
    stopped, killed = tmp_path / "stopped", tmp_path / "killed"
    for folder in (stopped, killed):
        folder.mkdir()
        write_home(folder)

    run = Run(context, stopped, "--trainer.callbacks.tell=SIGUSR1", "--trainer.callbacks.at=5", world=2)
    assert run.finish() == [143, 0], run.said()  # the second is not for a scheduler to see
    assert "Stopped by SIGUSR1 at step 7; saved run/checkpoints/last.ckpt" in run.said()
    assert not any(map(working, run.workers()))
    run = Run(context, stopped, "--ckpt_path=auto", world=2, log="on.txt")
    assert run.finish() == [0, 0], run.said()

    log = killed / "log.txt"
    tell = ["--ckpt_path=auto", "--trainer.callbacks.tell=SIGKILL", "--trainer.callbacks.at=8"]
    agent = context.Process(target=survival_run.torchrun, args=(killed, log, tell))
    agent.start()
    agent.join(survival_run.PATIENCE)
    assert agent.exitcode == 0, log.read_text()[-3000:]
    assert re.search(r"relpretrain: error: rank 1 \(process \d+ on .+\) has died: rank 0 ends, too", log.read_text())

    whole = trace(stopped)
    assert [line.get("step") for line in whole] == [*range(STEPS), None]
    lives = trace(killed)
    steps = [line.get("step") for line in lives]
    assert steps[8] in (6, 8), steps  # with older versions the other rank may still save before it hears of it
    assert steps == [*range(8), *range(steps[8], STEPS), None]
    assert all(line == whole[-1 if line.get("step") is None else line["step"]] for line in lives)  # to the bit
