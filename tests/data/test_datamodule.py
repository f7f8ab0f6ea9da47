import dataclasses
import time
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from relpretrain.data import datamodule as module_file
from relpretrain.data.loading import StepDataset, StepLoader
from relpretrain.training.callbacks import LossLog
from relpretrain.training.optim import Optimizer
from relpretrain.types import CaptionBatch, GraphBatch, RegionBatch
from tests.data.datamodules import KINDS, assert_equal, run
from tests.data.small import stream, write_shards


def test_streams_give_their_types(make):
    batches = run(make(), 40)
    assert Counter(type(b) for b in batches) == Counter(
        {"captions": CaptionBatch, "regions": RegionBatch, "graphs": GraphBatch}[b.stream] for b in batches
    )
    assert {b.stream: b.objectives for b in batches}["graphs"] == ("vsg", "mrc")
    assert [b.step for b in batches] == list(range(40))
    assert all(b.images.shape == (KINDS[b.stream][1], 3, 16, 16) for b in batches)
    assert {b.stream: b.pairs.whole is not None for b in batches} == {k: k == "regions" for k in KINDS}


def test_every_key_once_per_epoch(make):
    captions = [b for b in run(make(), 60) if b.stream == "captions"][:16]
    keys = [key for batch in captions for key in batch.keys]
    expected = {f"small/s-{i // 5:06d}/k{i:03d}" for i in range(24)}
    for i in range(0, 96, 24):
        assert set(keys[i : i + 24]) == expected
    assert keys[:24] != keys[24:48]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make, workers):
    for a, b in zip(run(make(), 9), run(make(num_workers=workers), 9), strict=True):
        assert_equal(a, b)


def test_seed_changes_everything(make):
    a, b = run(make(seed=1), 12), run(make(seed=2), 12)
    assert [x.keys for x in a] != [x.keys for x in b]


def test_a_sample_is_augmented_and_masked_anew_each_time(make):
    one = write_shards(make.folder / "one", count=1, captions=1)
    batches = run(make({"captions": stream("captions", one, 1, color=False)}), 6)
    assert len({batch.keys for batch in batches}) == 1
    assert len({batch.images.sum().item() for batch in batches}) > 3
    assert len({tuple(batch.pairs.text.masked_input_ids[0].tolist()) for batch in batches}) > 3


def test_ranks_take_slices_of_the_joint_batch(make, monkeypatch):
    whole = run(make(), 12)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(module_file, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(module_file, "world_size", lambda: 2)
        parts.append(run(make(), 12))
    for joint, left, right in zip(whole, *parts, strict=True):
        assert left.stream == right.stream == joint.stream
        assert left.keys + right.keys == joint.keys
        assert torch.equal(torch.cat([left.images, right.images]), joint.images)
        assert torch.equal(torch.cat([left.pairs.text_keys, right.pairs.text_keys]), joint.pairs.text_keys)
        masked = [b.pairs.text.labels[b.pairs.text.labels >= 0] for b in (left, right, joint)]
        assert torch.equal(torch.cat(masked[:2]), masked[2])
        if isinstance(joint, GraphBatch):
            assert left.relations + right.relations == joint.relations


@pytest.mark.parametrize("workers", [0, 2])
def test_start_at_any_step(make, workers):
    expected = run(make(), 12)
    data = make(num_workers=workers)
    data.setup()
    data.load_state_dict({"next_step": 7, "schedule": data.schedule.fingerprint})
    for a, b in zip(expected[7:], islice(iter(data.train_dataloader()), 5), strict=True):
        assert_equal(a, b)


def test_changed_data_is_announced_on_resume(make):
    before, after = make(seed=1), make(seed=2)
    before.setup()
    after.setup()
    after.load_state_dict(before.state_dict())
    with pytest.warns(UserWarning, match="differs from the checkpoint's"):
        after.train_dataloader()


class _Steps:
    def __getitem__(self, step):
        return step


def test_a_worker_that_starts_late_begins_where_the_others_did():
    dataset = StepDataset(_Steps(), start=5, stop=17)
    loader = StepLoader(
        dataset, batch_size=None, num_workers=3, worker_init_fn=lambda number: time.sleep(0.4 * number),
        persistent_workers=True, collate_fn=lambda step: step,
    )  # fmt: skip
    for start in (5, 9, 17):
        seen = []
        for step in loader:
            seen.append(step)
            dataset.upcoming = step + 1  # as training goes on
            if len(seen) == 4:
                break
        assert seen == list(range(start, min(start + 4, 17)))
        dataset.upcoming = 17 if start == 9 else dataset.upcoming


def test_counters_are_logged(make):
    logged = []
    data = make({"captions": stream("captions", make.shards, 6)})
    for batch in run(data, 5):
        data.on_after_batch_transfer(batch, 0)
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.append(values), save=lambda: None)
    trainer = SimpleNamespace(datamodule=data, loggers=[logger], max_steps=10)
    LossLog()._log(trainer, SimpleNamespace(backbone=None, optimizer=Optimizer()), 5)
    assert (logged[0]["data/captions/small_samples"], logged[0]["data/captions/small_epochs"]) == (30.0, 1.25)


def test_checkpoint_gets_the_preprocessing(make):
    preprocess = make().preprocess
    assert (preprocess.image_size, preprocess.max_tokens) == (16, 36)


def test_the_schedule_is_printed(make, capsys):
    make(seed=3).setup()
    printed = capsys.readouterr().out
    assert "seed 3" in printed
    assert "captions: 50.0 % of the steps, 6 images each (captions), samples per epoch: small 24; for itc" in printed


def test_the_schedule_says_how_many_epochs_of_each_dataset_pass(make, capsys):
    data = make({"captions": stream("captions", make.shards, 6)}, stop="all_exhausted")
    data.setup()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Data plan, seed 0: 4 batches (stop: all_exhausted)"
    assert lines[2] == "    small: 4 batches, 24 samples, 1.00 epochs"


def test_web_shards_as_they_are(make, realdata, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(make.folder / "cache"))
    data = make({"web": stream("captions", str(realdata / "webdataset"), 8)}, image_size=32)
    batches = run(data, 4)
    assert len({key for batch in batches for key in batch.keys}) == 32
    assert not any(batch.skipped for batch in batches)


def test_repeated_batches_are_equal_to_the_bit(make):
    data = make()
    data.trainer = SimpleNamespace(overfit_batches=2, lightning_module=None, training=True, global_step=0)
    batches = run(data, 6)
    for step, batch in enumerate(batches):
        assert_equal(dataclasses.replace(batch, step=step % 2), batches[step % 2])
