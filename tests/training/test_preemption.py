import os
import signal
from pathlib import Path

import pytest

from relpretrain.cli import main
from tests.training.survival_run import STEPS, trace, write_home

RUN = Path("run/checkpoints")


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_home(tmp_path)
    return lambda *arguments: main(["fit", "-c", "recipe.yaml", "--data.num_workers=0", *arguments])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run did that nobody disturbed."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("whole")
        patch.chdir(folder)
        write_home(folder)
        assert main(["fit", "-c", "recipe.yaml", "--data.num_workers=0"]) == 0
        return trace(folder)


@pytest.mark.parametrize(
    ("name", "code", "validating", "step"),
    [("SIGTERM", 143, False, 6), ("SIGUSR1", 143, True, 4), ("SIGINT", 130, True, 8)],
)
def test_a_signal_saves_and_the_same_command_goes_on(fit, whole, capfd, name, code, validating, step):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    at = step if validating else step - 1  # the step that it comes in
    told = {"tell": name, "at": at, "validating": validating}
    assert fit(*(f"--trainer.callbacks.{key}={value}" for key, value in told.items())) == code
    out = capfd.readouterr().out
    assert f"Stopped by {name} at step {step}; saved {RUN / 'last.ckpt'}" in out
    assert "Go on:      relpretrain fit --run=run --ckpt_path=auto" in out
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    assert main(["fit", "--run=run", "--ckpt_path=auto", "--trainer.callbacks.at=-1"]) == 0
    assert trace(Path()) == whole  # every loss and the last weights, to the bit
    assert len(whole) == STEPS + 1


def test_a_signal_before_the_first_step_saves_nothing(fit, capfd, monkeypatch):
    from relpretrain.training import preemption

    listen = preemption.Preemption._listen

    def told_at_once(self):
        listen(self)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(preemption.Preemption, "_listen", told_at_once)
    assert fit() == 143
    assert "before the first step; nothing had to be saved" in capfd.readouterr().out
    assert not list(RUN.glob("*.ckpt"))
    assert fit("--trainer.max_steps=1", "--trainer.val_check_interval=null") == 143  # not refused: nothing is there


def test_ctrl_c_in_any_command_is_130_without_a_traceback(monkeypatch, capsys):
    from relpretrain import cli

    def interrupted(command, arguments):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "data", interrupted)
    assert main(["data"]) == 130
    assert capsys.readouterr().err == ""
