import csv
import logging
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml

from relpretrain.backbones import vision
from relpretrain.checkpoints import checkpoint as checkpoints
from relpretrain.cli import main
from relpretrain.training.command.resuming import differences, settings_of
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
    assert steps("run/metrics-1.csv") == [1, 2, 3, 4]


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


def test_validating_leaves_settings_and_metrics_of_the_run(fit, caplog):
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


def test_a_checkpoint_without_settings_needs_a_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.save({checkpoints.KEY: {}, "state_dict": {}}, "x.ckpt")
    assert settings_of(Path("x.ckpt")) is None
    assert main(["fit", "--ckpt_path", "x.ckpt"]) == 2
    assert "x.ckpt has no config.yaml of its run beside it: give its recipe, -c RECIPE" in capsys.readouterr().err


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
