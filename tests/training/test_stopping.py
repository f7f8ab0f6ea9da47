import csv

import pytest

from relpretrain.errors import ConfigError
from relpretrain.training.command import cli
from tests.small_fit import small_fit


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = small_fit(tmp_path, "realbef", dict.fromkeys(("captions", "mrc", "vsg"), 4), steps=-1)
    only = ["--data.streams.mrc.ratio=0", "--data.streams.vsg.ratio=0", "--data.stop=all_exhausted"]
    return lambda *arguments: call(*only, "--model.optimizer.warmup_steps=0", *arguments)


def test_a_finished_run_that_a_rule_ended_says_so(fit, capsys):
    assert fit() == 0
    capsys.readouterr()
    assert fit("--ckpt_path=auto") == 0
    told = capsys.readouterr().out.splitlines()
    assert told[-2] == "Finished:   step 6 of 6, saved in run/checkpoints/last.ckpt; nothing is left to do"
    assert told[-1].endswith(" --ckpt_path=auto --trainer.max_steps=12 --data.stop=max_steps")
    assert "all_exhausted" not in told[-1]
    assert fit("--ckpt_path=auto", "--trainer.max_steps=7", "--data.stop=max_steps") == 0


@pytest.fixture
def built(monkeypatch):
    """The `max_steps` that trainers were built with."""
    found = []

    def instead(self, config, callbacks):
        found.append(config["max_steps"])
        raise ConfigError("far enough")

    monkeypatch.setattr(cli.RelationCLI, "_instantiate_trainer", instead)
    return found


CASES = {
    "the rule": ((), 6),
    "the rule, in steps of two batches": (("--trainer.accumulate_grad_batches=4",), 2),
    "the recipe's own end comes first": (("--trainer.max_steps=3",), 3),
    "the recipe's own end comes last": (("--trainer.max_steps=30",), 6),
    "batches that are repeated": (("--trainer.overfit_batches=2", "--trainer.max_steps=30"), 30),
    "no rule": (("--data.stop=max_steps", "--trainer.max_steps=30"), 30),
}


@pytest.mark.parametrize("case", CASES)
def test_the_trainer_is_built_with_its_end(fit, built, case):
    arguments, expected = CASES[case]
    assert fit(*arguments) == 2
    assert built == [expected]


def test_the_learning_rate_falls_to_the_end_of_the_rule(fit, recwarn):
    assert fit("--model.optimizer.decay=linear", "--model.optimizer.min_lr=0") == 0
    with open("run/metrics.csv", newline="") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    assert rates == pytest.approx([rates[0] * left / 5 for left in (5, 4, 3, 2, 1, 0)])
    assert not [warning for warning in recwarn if "stop=" in str(warning.message)]
