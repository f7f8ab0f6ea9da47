"""Weights & Biases by one line of a recipe, on a made-up package of its name. TensorBoard: test_resuming.py."""

import sys
import types

import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import WandbLogger

from relpretrain.cli import main
from relpretrain.training import LossLog
from relpretrain.training.command.loggers import loggers
from tests.training.standin import loader, module


class Run:
    """What `wandb.init` gives: notes what it is told."""

    def __init__(self, **options):
        self.options, self.logged, self.name, self.id = options, [], "made-up", "1"
        self.config = self
        self.summary: dict = {}

    def update(self, *args, **kwargs):
        pass

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, values, **kwargs):
        self.logged.append(values)


@pytest.fixture
def wandb(monkeypatch):
    """The made-up package; its `runs` are those that were begun."""
    package, lib, run = (types.ModuleType(name) for name in ("wandb", "wandb.sdk.lib", "wandb.wandb_run"))
    package.runs, package.run = [], None
    package.init = lambda **options: package.runs.append(Run(**options)) or package.runs[-1]
    lib.RunDisabled, run.Run = type("RunDisabled", (), {}), Run
    for name, made in {"wandb": package, "wandb.sdk": types.ModuleType("wandb.sdk")}.items():
        monkeypatch.setitem(sys.modules, name, made)
    monkeypatch.setitem(sys.modules, "wandb.sdk.lib", lib)
    monkeypatch.setitem(sys.modules, "wandb.wandb_run", run)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return package


def test_the_losses_go_to_wandb_and_to_metrics_csv(wandb, tmp_path):
    made = loggers(WandbLogger(project="mine", save_dir=str(tmp_path)), tmp_path / "run")
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_steps=4, log_every_n_steps=2, logger=made, accelerator="cpu", **options)
    trainer.fit(module(), loader())
    assert any(isinstance(callback, LossLog) for callback in trainer.callbacks)
    (run,) = wandb.runs
    assert run.options["project"] == "mine"
    assert [values["trainer/global_step"] for values in run.logged if "train/loss" in values] == [2, 4]
    columns = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {name for values in run.logged for name in values} - {"trainer/global_step"} <= set(columns)


def test_the_line_of_a_recipe_names_it(wandb, capsys):
    assert main(["fit", "-c", "quickstart", "--trainer.logger=WandbLogger", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["trainer"]["logger"]["class_path"].endswith(".WandbLogger")
