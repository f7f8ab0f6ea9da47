"""What a run says before its first step."""

import inspect
import logging
from pathlib import Path
from types import SimpleNamespace

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_info

from relpretrain.training.header import RunHeader, Threads, header, parameters, quiet_devices
from tests.training.standin import loader, module

OPTIONS = {
    **dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
    "accelerator": "cpu",
}


def fit(tmp_path, *callbacks):
    trainer = Trainer(max_steps=1, callbacks=list(callbacks), **OPTIONS, default_root_dir=tmp_path)
    trainer.fit(module(), loader())
    return trainer


def test_five_lines_say_what_begins(tmp_path, capsys):
    fit(tmp_path, RunHeader(Path("runs/mine"), seed=7), Threads(1))
    model, size, steps, run = capsys.readouterr().out.splitlines()  # a plain loader has no plan
    assert model == "Model:      Dropping, trained with itc, itm, mlm, box, vsg, mrc"
    assert size == "Parameters: 1.5 K: Dropping 815, mrc 643"
    assert steps == "Steps:      1, seed 7, on the CPU, 32-true, threads: 1, as asked"
    assert run == "Run:        runs/mine: config.yaml, data.txt (the plan of the data), metrics.csv, checkpoints/"


def test_a_run_that_goes_on_says_from_where(tmp_path, capsys):
    """When it is printed, the trainer itself has not heard of it yet."""
    fit(tmp_path).save_checkpoint(tmp_path / "one.ckpt")
    trainer = Trainer(max_steps=2, callbacks=[RunHeader(), Threads(1)], **OPTIONS, default_root_dir=tmp_path)
    whole = {"weights_only": False} if "weights_only" in inspect.signature(trainer.fit).parameters else {}
    trainer.fit(module(), loader(), ckpt_path=tmp_path / "one.ckpt", **whole)
    assert "Steps:      2, from 1 on, on the CPU" in capsys.readouterr().out


def test_the_data_is_one_line(tmp_path):
    trainer = fit(tmp_path)
    stream = SimpleNamespace(batch_size=4)
    schedule = SimpleNamespace(streams={"graphs": stream, "captions": stream}, sizes=lambda: SIZES)
    schedule.probabilities = {"graphs": 0.75, "captions": 0.25}
    SIZES = {("graphs", "vg"): 1000, ("graphs", "own"): 200, ("captions", "cc"): 50_000}
    never = {("graphs", "own"): {"no_box": 12, "no_relation": 1}}
    trainer.datamodule = SimpleNamespace(schedule=schedule, never_drawn=never)
    lines = header(trainer, module(), Path("run"))
    assert len(lines) == 5
    assert lines[2] == "Data:       graphs 75 % (1,200 samples, 13 never drawn), captions 25 % (50,000)"
    assert header(trainer, module())[-1] == "Run:        nothing is kept"


def test_validation_is_told_in_steps_though_it_counts_batches(tmp_path):
    trainer = fit(tmp_path)
    trainer.datamodule = SimpleNamespace(validation={"v": None})
    for every, accumulate, told in (
        (800, 1, "1, validated every 800, on"),
        (800, 4, "of 4 batches each, validated every 200 (800 batches), on"),
        (10_000, 3, "validated every 3,333.3 (10,000 batches)"),
    ):
        trainer.val_check_interval, trainer.accumulate_grad_batches = every, accumulate
        assert told in header(trainer, module())[2]
    trainer.limit_val_batches = 0
    assert "validated" not in header(trainer, module())[2]
    trainer.limit_val_batches, trainer.val_check_interval = 1.0, 1.0  # at the end of an epoch, which has none
    assert "validated" not in header(trainer, module())[2]


def test_frozen_parameters_are_told(tmp_path):
    trained = module()
    trained.backbone.requires_grad_(False)
    assert " of them trained: " in parameters(trained)


def test_lightnings_lines_on_devices_are_left_out(caplog):
    quiet_devices()
    with caplog.at_level(logging.INFO):
        rank_zero_info("TPU available: False, using: 0 TPU cores")
        rank_zero_info("GPU available: False, used: False")
        rank_zero_info("what a user must know")
    assert caplog.messages == ["what a user must know"]
