import csv
import logging
import sys
import types
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
import yaml

from relpretrain.backbones import vision
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.cli import main
from relpretrain.training.command.resuming import differences, settings_of
from relpretrain.training.optim import Optimizer, learning_rate
from tests.small_fit import small_fit


@pytest.fixture
def fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return small_fit(tmp_path, "realbef", dict.fromkeys(("captions", "mrc", "vsg"), 4), steps=4)


def steps(path):
    with open(path, newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file) if row["train/loss"]]


def test_a_checkpoint_alone_goes_on_with_the_settings_of_its_run(fit, capsys, caplog):
    assert fit() == 0
    before = yaml.safe_load(Path("run/config.yaml").read_text())
    caplog.set_level(logging.INFO)
    assert main(["fit", "--ckpt_path", "run/checkpoints/last.ckpt", "--trainer.max_steps=6"]) == 0
    after = yaml.safe_load(Path("run/config.yaml").read_text())
    assert after["ckpt_path"] is None  # or the next run from these settings would start there
    assert list(differences(before, after)) == ["trainer.max_steps: 6, was 4"]
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("  ")]
    assert told == ["  trainer.max_steps: 6, was 4"]
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 6
    assert steps("run/metrics.csv") == [1, 2, 3, 4, 5, 6]  # of the whole run
    assert not Path("run/metrics-1.csv").exists()  # it would say the same


def test_a_recipe_and_overrides_come_on_top(fit, caplog):
    assert fit("--data.max_bad_fraction=0.2") == 0
    caplog.set_level(logging.INFO)
    ckpt = ["--ckpt_path", "run/checkpoints/last.ckpt"]
    Path("mine.yaml").write_text("data: {mask_fraction: 0.5}")
    assert main(["fit", "-c", "mine.yaml", *ckpt, "--run=other", "--trainer.max_steps=5"]) == 0
    kept = yaml.safe_load(Path("other/config.yaml").read_text())
    assert kept["data"]["max_bad_fraction"] == 0.2
    assert kept["data"]["mask_fraction"] == 0.5
    told = {record.getMessage() for record in caplog.records if record.getMessage().startswith("  ")}
    assert told == {"  trainer.max_steps: 5, was 4", "  data.mask_fraction: 0.5, was 0.25", "  run: 'other', was 'run'"}
    assert steps("other/metrics.csv") == [1, 2, 3, 4, 5]


def test_nothing_is_downloaded_that_the_checkpoint_holds(fit, monkeypatch):
    assert fit() == 0

    def refuse(encoder, name):
        raise AssertionError(f"downloads {name}")

    monkeypatch.setattr(vision, "load_pretrained", refuse)
    ckpt = ["--ckpt_path", "run/checkpoints/last.ckpt", "--trainer.max_steps=5"]
    Path("start.pt").touch()
    given = ["--model.backbone.pretrained_image=vit_base_patch16_224.augreg_in21k", "--model.weights=start.pt"]
    assert main(["fit", *ckpt, *given]) == 0
    kept = yaml.safe_load(Path("run/config.yaml").read_text())["model"]  # what it began with stays on record
    assert kept["backbone"]["init_args"]["pretrained_image"] == "vit_base_patch16_224.augreg_in21k"
    assert kept["weights"] == "start.pt"


def test_validating_leaves_settings_and_metrics_of_the_run(fit, caplog, recwarn):
    validation = ['--data.validation={"v": {"kind": "captions", "datasets": {"s": "shards"}, "batch_size": 4}}']
    assert fit(*validation, '--data.validation.v.objectives=["itc"]') == 0
    before = [Path("run", name).read_bytes() for name in ("config.yaml", "metrics.csv")]
    caplog.set_level(logging.INFO)
    assert main(["validate", "--ckpt_path", "run/checkpoints/last.ckpt"]) == 0
    told = [record.getMessage() for record in caplog.records]
    assert any("with the settings of" in line for line in told)
    assert not [line for line in told if line.startswith("  ")]  # no setting has changed
    assert [Path("run", name).read_bytes() for name in ("config.yaml", "metrics.csv")] == before
    assert Path("run/validate/metrics.csv").is_file()
    assert not [warning for warning in recwarn if "untrained" in str(warning.message)]
    with pytest.warns(UserWarning, match="validate without --ckpt_path looks at an untrained model"):
        assert main(["validate", "-c", "run/config.yaml"]) == 0


def test_a_checkpoint_without_settings_needs_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({checkpoints.KEY: {}, "state_dict": {}}, "x.ckpt")
    assert settings_of(Path("x.ckpt")) is None
    assert main(["fit", "--ckpt_path", "x.ckpt"]) == 2
    assert "x.ckpt has no config.yaml of its run beside it: give its recipe, -c RECIPE" in capsys.readouterr().err


def errors(capsys):
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("relpretrain: error: ") for line in lines if line.startswith("relpretrain: error: ")]


def test_other_numbers_of_the_optimizer_count_from_the_checkpoint_on(fit):
    plain = ["--model.optimizer.decay=constant", "--model.optimizer.warmup_steps=0"]
    assert fit(*plain) == 0
    other = {"lr": 1e-5, "weight_decay": 0.5, "eps": 1e-6}
    given = [f"--model.optimizer.{name}={value}" for name, value in other.items()]
    last = "run/checkpoints/last.ckpt"
    given += ["--model.optimizer.betas=[0.5,0.6]", "--trainer.max_steps=6"]
    assert main(["fit", f"--ckpt_path={last}", *given]) == 0
    state = torch.load(last, weights_only=True)
    (optimizer,), (schedule,) = state["optimizer_states"], state["lr_schedulers"]
    decayed, free = optimizer["param_groups"]
    assert {name: decayed[name] for name in other} == other
    assert (free["lr"], free["weight_decay"]) == (1e-5, 0.0)
    assert tuple(decayed["betas"]) == (0.5, 0.6)
    assert schedule["base_lrs"] == [1e-5, 1e-5]
    assert int(optimizer["state"][0]["step"]) == 6  # moments are those of the whole run
    with open("run/metrics.csv", newline="") as file:
        assert [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]] == [1e-4] * 4 + [1e-5] * 2


def test_a_longer_run_takes_its_first_step_with_its_own_learning_rate(fit):
    """The schedule of the shorter one had come to zero."""
    RATES.clear()
    assert fit("--model.optimizer.warmup_steps=0", "--trainer.callbacks+=tests.training.test_resuming.Rates") == 0
    assert RATES[:] == pytest.approx([learning_rate(n, Optimizer(warmup_steps=0), 4) for n in range(4)])
    assert main(["fit", "--ckpt_path=run/checkpoints/last.ckpt", "--trainer.max_steps=8"]) == 0
    assert RATES[4:] == pytest.approx([learning_rate(n, Optimizer(warmup_steps=0), 8) for n in range(4, 8)])


RATES = []


class Rates(pl.Callback):
    """Notes the learning rate that each step is taken with."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        RATES.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--model.backbone.init_args.text_ffn=32", "of another shape: "),
        ("--model.objectives.mrc.init_args.hidden=8", "instead of (8,)"),
        ("--model.optimizer.new_lr=2.0", "is of an optimizer with groups of"),
    ],
)
def test_a_checkpoint_of_another_model_is_told_in_one_line(fit, capsys, given, message):
    assert fit() == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert main(["fit", "--ckpt_path=run/checkpoints/last.ckpt", "--trainer.max_steps=6", given]) == 2
    (line,) = errors(capsys)
    assert message in line
    assert "settings of its run" in line
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


def test_weights_alone_are_a_beginning_and_no_run_to_go_on_with(fit, capsys):
    assert fit() == 0
    assert main(["weights", "export", "run/checkpoints/last.ckpt", "folder"]) == 0
    content = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    del content["optimizer_states"]
    torch.save(content, "weights.ckpt")
    capsys.readouterr()
    for path in ("folder", "weights.ckpt"):
        assert fit("--run=other", f"--ckpt_path={path}") == 2
        (line,) = errors(capsys)
        assert line.startswith(f"{path} holds weights alone")
        assert line.endswith(f"give it as --model.weights={path} instead")
    assert fit("--run=other", "--model.weights=folder") == 0


@pytest.mark.parametrize("name", ["best", "hpc"])
def test_names_that_mean_nothing_before_a_run_are_told(fit, capsys, name):
    assert fit(f"--ckpt_path={name}") == 2
    (line,) = errors(capsys)
    assert line.startswith(f"--ckpt_path={name}: no run is under way")


def test_a_pass_for_trial_leaves_a_run_alone(fit):
    assert fit() == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    assert fit("--trainer.fast_dev_run=1") == 0
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before


LOGGER = """
from lightning.pytorch.loggers import Logger
class Other(Logger):
    name = version = "other"
    seen = []
    def log_hyperparams(self, *args, **kwargs): ...
    def log_metrics(self, metrics, step=None): self.seen.append(step)
"""


def test_another_logger_comes_beside_metrics_csv(fit, monkeypatch):
    room = types.ModuleType("room")
    exec(LOGGER, room.__dict__)
    room.Other.__module__ = "room"
    monkeypatch.setitem(sys.modules, "room", room)
    assert fit("--trainer.logger=room.Other") == 0
    assert steps("run/metrics.csv") == [1, 2, 3, 4]
    assert set(room.Other.seen) >= {1, 2, 3, 4}
    assert Path("run/config.yaml").is_file()


def test_tensorboard_is_one_word(fit, capsys):
    code = fit("--trainer.logger=TensorBoard")
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        assert code == 2
        expected = "trainer.logger: TensorBoard needs a package that is not installed: pip install tensorboard"
        assert expected in capsys.readouterr().err
    else:
        assert code == 0
        assert list(Path("run/tensorboard").glob("events.*"))
        assert Path("run/metrics.csv").is_file()
