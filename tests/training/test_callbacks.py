import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from relpretrain.errors import CheckpointError
from relpretrain.training import LastCheckpoint, LossLog, ProgressLine
from relpretrain.training.callbacks import Throughput, next_commands
from relpretrain.training.survival.preemption import Stopped
from tests.training.standin import batch, loader, module


def test_throughput_counts_each_stream_in_its_own_time():
    meter = Throughput()
    meter.add("captions", 100, 1.0)
    meter.add("captions", 100, 1.0)
    meter.add("graphs", 30, 3.0)
    assert meter.rates() == pytest.approx(
        {"images_per_second": 46.0, "captions_images_per_second": 100.0, "graphs_images_per_second": 10.0}
    )
    assert meter.rates() == {}
    meter.add("graphs", 30, 3.0)
    assert set(meter.rates()) == {"images_per_second"}


def fit(tmp_path, line, steps=4, **options):
    trainer = Trainer(
        accelerator="cpu",
        max_steps=steps,
        log_every_n_steps=2,
        logger=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[line, LastCheckpoint(tmp_path)],
        **options,
    )
    trainer.fit(module(), loader())


def test_the_last_checkpoint_is_saved_whatever_the_interval(tmp_path, capsys):
    fit(tmp_path, ProgressLine(), steps=3, enable_checkpointing=True)
    assert (tmp_path / "last.ckpt").is_file()
    out = capsys.readouterr().out
    assert f"Checkpoint: {tmp_path / 'last.ckpt'}" in out
    assert "relpretrain zeroshot --checkpoint" in out


def test_the_next_commands_can_be_run_as_they_stand(tmp_path):
    """Benchmarks beside the data, as in a generated world; without any, how to have one."""
    world = tmp_path / "my world"
    for folder in ("captions", "validation", "benchmarks/vsr", "benchmarks/images"):
        (world / folder).mkdir(parents=True)
    places = ["pipe:cat x.tar", [str(world / "captions")]]
    lines = next_commands(Path("run/last.ckpt"), Path("run"), places, relations=True)
    assert lines == [
        "Score it:   relpretrain zeroshot --checkpoint run/last.ckpt --tasks vsr graphs \\",
        f"              --data '{world / 'benchmarks'}' --out run/report",
        "Its curves: relpretrain report run",
    ]
    assert "vsr \\" in next_commands(Path("x.ckpt"), Path("run"), [str(world / "captions")], relations=False)[0]
    fetching = next_commands(Path("x.ckpt"), Path("run"), ["data/mine"], relations=True)
    assert fetching[0].startswith("Score it:   relpretrain data fetch vsr --data benchmarks")
    assert fetching[2] == "              --data benchmarks --out run/report"
    assert max(map(len, fetching)) <= 110


@pytest.mark.parametrize(
    "place", ["captions/*.tar", "captions/{000..001}.tar", "captions/000.tar", "captions/index.json"]
)
def test_benchmarks_are_found_beside_the_folder_of_shards_that_are_named(tmp_path, place):
    for folder in ("captions", "benchmarks/vsr"):
        (tmp_path / folder).mkdir(parents=True)
    lines = next_commands(Path("x.ckpt"), Path("run"), [str(tmp_path / place)], relations=False)
    assert f"--data {tmp_path / 'benchmarks'} " in lines[1]


def test_data_of_any_name_end_no_run(monkeypatch):
    """A command too long for a file name; a folder of another user."""
    long = f"pipe:{'x' * 300}/y"
    assert "data fetch vsr" in next_commands(Path("x.ckpt"), Path("run"), [long], relations=True)[0]

    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    assert "data fetch vsr" in next_commands(Path("x.ckpt"), Path("run"), ["/other/data"], relations=True)[0]


def test_no_checkpoint_where_none_is_wanted(tmp_path, capsys):
    fit(tmp_path, ProgressLine(), steps=1, enable_checkpointing=False)
    assert not (tmp_path / "last.ckpt").exists()
    assert "Checkpoint" not in capsys.readouterr().out


def test_a_checkpoint_is_told_only_when_it_can_be_read_back(tmp_path, capsys):
    class Damaging(Callback):
        def on_fit_end(self, trainer, pl_module):
            path = tmp_path / "last.ckpt"
            path.write_bytes(path.read_bytes()[:-1000])

    trainer = Trainer(accelerator="cpu", max_steps=1, logger=False, enable_progress_bar=False,
                      enable_model_summary=False, default_root_dir=tmp_path,
                      callbacks=[Damaging(), LastCheckpoint(tmp_path)])  # fmt: skip
    with pytest.raises(CheckpointError, match=r"last\.ckpt is not a checkpoint: cut off"):
        trainer.fit(module(), loader())
    assert "Checkpoint" not in capsys.readouterr().out


def test_the_log_tells_the_norm_of_the_gradients_and_what_was_left_out(tmp_path):
    seen = []

    class Reading(Callback):
        def on_train_batch_end(self, trainer, *args):
            log = next(c for c in trainer.callbacks if isinstance(c, LossLog))
            log.listeners[:] = [lambda: seen.append(dict(log.latest))]

    fit(tmp_path, Reading(), steps=2)
    assert seen[-1]["train/gradient_norm"] > 0


def test_the_first_step_after_a_start_is_in_no_rate(tmp_path, monkeypatch):
    """It takes a hundred seconds of the test's clock, every other one a second."""
    clock, images, seen = [0.0], [], []
    monkeypatch.setattr("relpretrain.training.callbacks.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Computing(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            clock[0] += 1.0 if trainer.global_step else 100.0
            images.append(len(batch))

        def on_train_batch_end(self, trainer, *args):
            log = next(c for c in trainer.callbacks if isinstance(c, LossLog))
            log.listeners[:] = [lambda: seen.append(log.latest["train/images_per_second"])]

    fit(tmp_path, Computing(), steps=4)
    assert seen == [images[1], (images[2] + images[3]) / 2]


def test_a_few_steps_after_a_start_are_no_row_of_their_own(monkeypatch):
    rows = []

    def note(log, trainer, module, step):
        log._logged_at = step
        rows.append(step)

    monkeypatch.setattr(LossLog, "_log", note)

    def logged(start, end, every=10, ended=None):
        """Steps of the rows of a run that takes the steps `start` to `end`, where it is ended by a hook."""
        rows.clear()
        log, model = LossLog(), SimpleNamespace(last=None)
        trainer = SimpleNamespace(log_every_n_steps=every, max_steps=99 if ended else end, global_step=start)
        log.on_train_start(trainer, model)
        for trainer.global_step in range(start + 1, end + 1):
            model.last = torch.zeros(()), {}
            log.on_train_batch_end(trainer, model, None, batch(trainer.global_step), 0)
        if ended is not None:
            ended(log, trainer, model)
        return list(rows)

    assert logged(0, 22) == [10, 20, 22]
    assert logged(8, 30) == [20, 30]
    assert logged(5, 20) == [10, 20]
    assert logged(3, 5, every=1) == [4, 5]

    def told(error):
        return lambda log, trainer, model: log.on_exception(trainer, model, error)

    assert logged(8, 19, ended=told(Stopped(143))) == [19]  # for the run that goes on begins there
    assert logged(0, 23, ended=told(Stopped(143))) == [10, 20]
    assert logged(8, 19, ended=told(SystemExit(143))) == []  # of one process, it may be
    assert logged(0, 23, ended=LossLog.on_train_end) == [10, 20, 23]  # as an early stop
    assert logged(0, 20, ended=LossLog.on_train_end) == [10, 20]
