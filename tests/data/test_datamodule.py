import copy
import dataclasses
import io
import os
import re
import time
from collections import Counter
from itertools import islice
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch

from relpretrain.data import datamodule as module_file
from relpretrain.data.datamodule import RelationDataModule
from relpretrain.data.loading import StepDataset, StepLoader
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.errors import ConfigError, TooManyBadSamples
from relpretrain.training.callbacks import LossLog
from relpretrain.training.optim import Optimizer
from relpretrain.types import Batch, CaptionBatch, GraphBatch, RegionBatch
from tests.data.shards.test_row_index import write_tar
from tests.data.small import picture, stream, tokenizer, write_shards

KINDS = {"captions": (2.0, 6), "regions": (1.0, 4), "graphs": (1.0, 4)}


@pytest.fixture
def make(tmp_path):
    shards = write_shards(tmp_path / "shards")
    name = tokenizer(tmp_path)

    def data(streams=None, **options):
        chosen = streams or {k: stream(k, shards, b, ratio=r, image_rows=True) for k, (r, b) in KINDS.items()}
        return RelationDataModule(chosen, name, **{"image_size": 16, **options})

    data.shards, data.folder = shards, tmp_path
    return data


def _run(data, count):
    data.setup()
    return list(islice(iter(data.train_dataloader()), count))


def _tensors(batch, prefix=""):
    for field in dataclasses.fields(batch):
        value = getattr(batch, field.name)
        if dataclasses.is_dataclass(value):
            yield from _tensors(value, prefix + field.name + ".")
        else:
            yield prefix + field.name, value


def _equal(a, b):
    assert type(a) is type(b)
    for (name, x), (_, y) in zip(_tensors(a), _tensors(b), strict=True):
        assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, name


def test_streams_give_their_types(make):
    batches = _run(make(), 40)
    assert Counter(type(b) for b in batches) == Counter(
        {"captions": CaptionBatch, "regions": RegionBatch, "graphs": GraphBatch}[b.stream] for b in batches
    )
    assert {b.stream: b.objectives for b in batches}["graphs"] == ("vsg", "mrc")
    assert [b.step for b in batches] == list(range(40))
    assert all(b.images.shape == (KINDS[b.stream][1], 3, 16, 16) for b in batches)
    assert {b.stream: b.pairs.whole is not None for b in batches} == {k: k == "regions" for k in KINDS}


def test_every_key_once_per_pass(make):
    captions = [b for b in _run(make(), 60) if b.stream == "captions"][:16]
    keys = [key for batch in captions for key in batch.keys]
    expected = {f"small/s-{i // 5:06d}/k{i:03d}" for i in range(24)}
    for i in range(0, 96, 24):
        assert set(keys[i : i + 24]) == expected
    assert keys[:24] != keys[24:48]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(make, workers):
    for a, b in zip(_run(make(), 9), _run(make(num_workers=workers), 9), strict=True):
        _equal(a, b)


def test_seed_changes_everything(make):
    a, b = _run(make(seed=1), 12), _run(make(seed=2), 12)
    assert [x.keys for x in a] != [x.keys for x in b]


def test_a_sample_is_augmented_and_masked_anew_each_time(make):
    one = write_shards(make.folder / "one", count=1, captions=1)
    batches = _run(make({"captions": stream("captions", one, 1, color=False)}), 6)
    assert len({batch.keys for batch in batches}) == 1
    assert len({batch.images.sum().item() for batch in batches}) > 3
    assert len({tuple(batch.pairs.text.masked_input_ids[0].tolist()) for batch in batches}) > 3


def test_ranks_take_slices_of_the_joint_batch(make, monkeypatch):
    whole = _run(make(), 12)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(module_file, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(module_file, "world_size", lambda: 2)
        parts.append(_run(make(), 12))
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
    expected = _run(make(), 12)
    data = make(num_workers=workers)
    data.setup()
    data.load_state_dict({"next_step": 7, "plan": data.schedule.fingerprint})
    for a, b in zip(expected[7:], islice(iter(data.train_dataloader()), 5), strict=True):
        _equal(a, b)


def test_changed_data_is_announced_on_resume(make):
    before, after = make(seed=1), make(seed=2)
    before.setup()
    after.setup()
    after.load_state_dict(before.state_dict())
    with pytest.warns(UserWarning, match="differs from the checkpoint's"):
        after.train_dataloader()


class _Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, index):
        assert isinstance(batch, Batch)
        self.seen.append((batch.step, batch.keys))
        return self.weight * batch.images.sum()

    def validation_step(self, batch, index, dataloader_idx=0):
        self.seen.append(("val", batch.stream, batch.keys))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def _fit(data, folder, steps, resume=None, **options):
    model = _Model()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=steps, logger=False, default_root_dir=folder, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **{"max_epochs": -1, **options},
    )  # fmt: skip
    trainer.fit(model, data, ckpt_path=resume)
    return model.seen, trainer


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_training_resumes_with_exactly_the_next_batch(make, tmp_path, workers):
    expected, _ = _fit(make(), tmp_path, 14)
    first, trainer = _fit(make(num_workers=workers), tmp_path, 5, enable_checkpointing=False)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    second, _ = _fit(make(num_workers=workers), tmp_path, 14, resume=tmp_path / "stop.ckpt")
    assert first + second == expected
    assert [step for step, _ in expected] == list(range(14))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_go_on_where_the_last_ended(make, tmp_path, workers):
    data = make(num_workers=workers)
    seen, _ = _fit(data, tmp_path, 12, limit_train_batches=4, enable_checkpointing=False)
    assert [step for step, _ in seen] == list(range(12))


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("stop", "limit", "accumulate", "batches", "steps"),
    [
        ("first_exhausted", -1, 1, 4, 4),  # 24 samples in batches of 6
        ("all_exhausted", -1, 1, 4, 4),
        ("first_exhausted", 3, 1, 3, 3),  # the trainer's own limit comes first
        ("first_exhausted", 50, 1, 4, 4),
        ("all_exhausted", -1, 3, 4, 2),
        ("max_steps", 7, 1, 7, 7),
    ],
)
def test_training_ends_by_its_rule(make, tmp_path, stop, limit, accumulate, batches, steps):
    data = make({"captions": stream("captions", make.shards, 6)}, stop=stop)
    options = {"accumulate_grad_batches": accumulate, "enable_checkpointing": False}
    seen, trainer = _fit(data, tmp_path, limit, **options)
    assert [step for step, _ in seen] == list(range(batches))
    assert trainer.global_step == trainer.max_steps == steps
    assert data.counters() == {
        "data/captions/small_samples": 6.0 * batches,
        "data/captions/small_passes": 6 * batches / 24,
    }
    assert data.state_dict()["dealt"] == {"captions/small": 6 * batches}


@pytest.mark.filterwarnings("ignore:.*(treespec|num_workers|many workers)")
@pytest.mark.parametrize("workers", [0, 1])
def test_overfit_batches_repeats_the_first_batches(make, tmp_path, workers, capsys):
    held = {"held": stream("captions", make.shards, 6), "graphs": stream("graphs", make.shards, 4)}
    data = make(num_workers=workers, validation=held)
    with pytest.warns(UserWarning, match=r"overfit_batches=2: every epoch repeats the first 2 batches \(of captions"):
        seen, _ = _fit(data, tmp_path, 6, overfit_batches=2, enable_checkpointing=False)
    trained = [e[1] for e in seen if e[0] != "val"]
    assert trained == trained[:2] * 3
    assert trained[0] != trained[1]
    assert [e[0] for e in seen if e[0] != "val"] == list(range(6))
    assert [e[1] for e in seen if e[0] == "val"] == ["held", "held", "graphs", "graphs"] * 3
    assert "2 batches (stop: overfit_batches, again and again)" in capsys.readouterr().out


def test_repeated_batches_are_equal_to_the_bit(make):
    data = make()
    data.trainer = SimpleNamespace(overfit_batches=2, lightning_module=None, training=True, global_step=0)
    batches = _run(data, 6)
    for step, batch in enumerate(batches):
        _equal(dataclasses.replace(batch, step=step % 2), batches[step % 2])


def test_a_bad_sample_in_a_repeated_batch_counts_once(make, tmp_path):
    data = make({"captions": stream("captions", _some_bad(make, 40), 40)})
    with pytest.warns(UserWarning, match="overfit_batches"):
        _fit(data, tmp_path, 10, overfit_batches=1, enable_checkpointing=False)
    assert data.report() == {"small": {"not_an_image": 1}}


@pytest.mark.parametrize("flag", ["overfit_batches", "limit_train_batches", "limit_val_batches"])
def test_shares_of_batches_without_end_are_refused(make, tmp_path, flag):
    with pytest.raises(ConfigError, match=rf"trainer\.{flag}=0\.5: .* Give a whole number"):
        _fit(make(), tmp_path, 4, **{flag: 0.5})


BY_BATCHES = {"check_val_every_n_epoch": None, "val_check_interval": 2}
FLAGS = {
    "epochs without end": (
        4,
        {"max_epochs": 2, **BY_BATCHES},
        "max_epochs=2 ends nothing: .* Training ends at max_steps=4",
    ),
    "no validation": (4, {"check_val_every_n_epoch": None}, "validation streams are never looked at"),
    "validation by batches": (4, BY_BATCHES, None),
    "validation by time": (4, {"val_check_interval": "00:00:01:00", "check_val_every_n_epoch": None}, None),
    "epochs of two batches": (-1, {"max_epochs": 2, "limit_train_batches": 2}, None),
    "reloading": (4, {"limit_train_batches": 2, "reload_dataloaders_every_n_epochs": 1}, None),
    "a rehearsal": (4, {"fast_dev_run": 2}, None),
}


@pytest.mark.parametrize("case", FLAGS)
def test_flags_of_the_trainer_are_served_or_told(make, tmp_path, case, recwarn):
    steps, options, told = FLAGS[case]
    held = {"held": stream("captions", make.shards, 6), "graphs": stream("graphs", make.shards, 4)}
    seen, _ = _fit(make(validation=held), tmp_path, steps, **{"enable_checkpointing": False, **options})
    trained = [entry[0] for entry in seen if entry[0] != "val"]
    assert trained == list(range(2 if case == "a rehearsal" else 4))
    warned = [str(w.message) for w in recwarn if "trainer." in str(w.message)]
    assert len(warned) == (told is not None), warned
    assert told is None or re.search(told, warned[0])


def test_limits_of_validation_are_for_each_stream(make, tmp_path):
    held = {"held": stream("captions", make.shards, 6), "graphs": stream("graphs", make.shards, 4)}
    options = {"limit_val_batches": 1, "val_check_interval": 2, "limit_train_batches": 2}
    seen, _ = _fit(make(validation=held), tmp_path, 2, enable_checkpointing=False, **options)
    assert [entry[1] for entry in seen if entry[0] == "val"] == ["held", "graphs"]


def test_a_rule_that_leaves_no_step(make):
    with pytest.raises(ConfigError, match=r"leaves no step.*samples per pass: small \(24\)"):
        make({"captions": stream("captions", make.shards, 30)}, stop="first_exhausted").setup()
    with pytest.raises(ConfigError, match="stop='exhausted' must be one of max_steps, first_exhausted, all_exhausted"):
        make(stop="exhausted").setup()


def test_counters_are_logged(make):
    logged = []
    data = make({"captions": stream("captions", make.shards, 6)})
    for batch in _run(data, 5):
        data.on_after_batch_transfer(batch, 0)
    logger = SimpleNamespace(log_metrics=lambda values, step: logged.append(values), save=lambda: None)
    trainer = SimpleNamespace(datamodule=data, loggers=[logger], max_steps=10)
    LossLog()._log(trainer, SimpleNamespace(backbone=None, optimizer=Optimizer()), 5)
    assert (logged[0]["data/captions/small_samples"], logged[0]["data/captions/small_passes"]) == (30.0, 1.25)


@pytest.mark.filterwarnings("ignore")
def test_validation_is_fixed_and_leaves_training_alone(make, tmp_path):
    validation = {
        "held": stream("captions", make.shards, 8),
        "graphs": stream("graphs", make.shards, 6, min_scale=0.5),
    }
    options = {"val_check_interval": 4, "limit_train_batches": 8, "enable_checkpointing": False}
    data = make(validation=validation, validation_batches=3)
    seen, _ = _fit(data, tmp_path, 8, **options)
    assert data.state_dict()["next_step"] == 8
    rounds = [entry for entry in seen if entry[0] == "val"]
    assert [entry[1] for entry in rounds] == (["held"] * 3 + ["graphs"] * 3) * 2
    assert rounds[:6] == rounds[6:]
    assert [entry[0] for entry in seen if entry[0] != "val"] == list(range(8))
    other = make(seed=5, validation=validation, validation_batches=3)
    other.setup()
    batches = list(other.val_dataloader())
    assert [("val", b.stream, b.keys) for b in batches] == rounds[:6]
    size = 16
    shown = Preprocess(other._tokenizer, size).images([_image(batches[0].keys[0])])
    assert torch.allclose(shown[0], batches[0].model_images()[0], rtol=0, atol=1.01 / 255 / 0.26)  # the last bit


def _image(key):
    from PIL import Image

    return Image.open(io.BytesIO(picture(int(key[-3:]))))


def test_bad_samples_are_counted_where_they_are(make):
    broken = {3: picture(3)[:700], 11: b"nothing"}
    shards = write_shards(make.folder / "bad", image=lambda i: broken.get(i) or picture(i), prefix="b")
    data = make({"captions": stream("captions", shards, 8)}, max_bad_fraction=0.1)
    for batch in _run(data, 3):
        data.on_after_batch_transfer(batch, 0)
        assert len(batch) == 8  # others in their places
    assert data.report() == {"small": {"not_an_image": 1, "truncated_image": 1}}
    assert "small: truncated_image: 1 times (first: b-000000/k003)" in data.bad_samples.lines()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 1])
def test_run_stops_when_too_many_are_bad(make, tmp_path, workers):
    shards = write_shards(make.folder / "bad", image=lambda i: picture(i)[: 700 if 5 <= i < 10 else None], prefix="b")
    data = make({"captions": stream("captions", shards, 8)}, num_workers=workers)
    with pytest.raises(TooManyBadSamples, match=r"'small': 5 of 24 samples are bad .* 'b-000001' with 5 of truncated"):
        _fit(data, tmp_path, 50, enable_checkpointing=False)


def _some_bad(make, every=8):
    return write_shards(make.folder / "some", count=40, image=lambda i: b"nothing" if i % every == 3 else picture(i))


@pytest.mark.filterwarnings("ignore")
def test_one_bad_sample_of_forty_stops_no_run_of_single_samples(make, tmp_path):
    data = make({"captions": stream("captions", _some_bad(make, 40), 1)})
    seen, _ = _fit(data, tmp_path, 120, enable_checkpointing=False)
    assert [step for step, _ in seen] == list(range(120))
    assert data.report() == {"small": {"not_an_image": 3}}  # one a pass


def test_what_takes_the_place_of_a_bad_sample_is_the_same_on_any_ranks_and_workers(make, monkeypatch):
    shards = _some_bad(make)

    def batches(**options):
        streams = {"captions": stream("captions", shards, 2), "graphs": stream("graphs", shards, 2)}
        return _run(make(streams, **options), 30)

    whole = batches()
    assert all(len(batch) == 2 for batch in whole)
    assert sum(len([1 for _, reason, _ in batch.skipped if reason == "not_an_image"]) for batch in whole) > 4
    for a, b in zip(whole, batches(num_workers=2), strict=True):
        _equal(a, b)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(module_file, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(module_file, "world_size", lambda: 2)
        parts.append(batches())
    for joint, left, right in zip(whole, *parts, strict=True):
        assert len(left) == len(right) == 1
        assert left.keys + right.keys == joint.keys
        assert left.skipped + right.skipped == joint.skipped
        assert torch.equal(torch.cat([left.images, right.images]), joint.images)


@pytest.mark.parametrize("workers", [0, 1])
def test_batch_without_a_good_sample_stops(make, workers):
    shards = write_shards(make.folder / "bad", image=lambda i: b"nothing")
    with pytest.raises(TooManyBadSamples, match=r"of 1,000 samples drawn for step 0 .*not_an_image"):
        _run(make({"captions": stream("captions", shards, 8)}, num_workers=workers), 1)


def test_checkpoint_gets_the_preprocessing(make):
    preprocess = make().preprocess
    assert (preprocess.image_size, preprocess.max_tokens) == (16, 36)


def test_plan_is_printed(make, capsys):
    make(seed=3).setup()
    printed = capsys.readouterr().out
    assert "seed 3" in printed
    assert "captions: 50.0 % of the steps, 6 images each (captions), samples per pass: small 24; for itc" in printed


def test_plan_says_how_often_each_dataset_is_passed(make, capsys):
    data = make({"captions": stream("captions", make.shards, 6)}, stop="all_exhausted")
    data.setup()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Data plan, seed 0: 4 batches (stop: all_exhausted)"
    assert lines[2] == "    small: 4 batches, 24 samples, 1.00 passes"


def _objective(*consumes):
    return SimpleNamespace(consumes=consumes)


OBJECTIVES = {
    "itc": _objective(CaptionBatch),
    "vma": _objective(RegionBatch),
    "vsg": _objective(GraphBatch),
    "mrc": _objective(GraphBatch),
}


def _problems(data, objectives=None, backbone=None):
    data.trainer = SimpleNamespace(
        lightning_module=SimpleNamespace(objectives=objectives or OBJECTIVES, backbone=backbone)
    )
    with pytest.raises(ConfigError) as caught:
        data.setup("fit")
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


def test_all_problems_are_told_at_once(make):
    streams = {
        "a": stream("captions", "nowhere/*.tar", objectives=["itcc"]),
        "b": stream("graphs", make.shards, objectives=["itc"], max_tokens=4),
        "c": stream("regions", write_shards(make.folder / "plain", graph=False), 3, ratio=2.0, flip=7.0),
        "off": stream("captions", "nothing here", ratio=0.0),
    }
    problems = _problems(make(streams, mask_fraction=2.0), backbone=SimpleNamespace(image_size=224))
    expected = [
        "Stream 'a', dataset 'small': Shard pattern 'nowhere/*.tar' matches no file",
        "Stream 'a': unknown objective 'itcc'; did you mean 'itc'?",
        "Stream 'b' gives graphs, but objective 'itc' (SimpleNamespace) takes captions.",
        "Stream 'b': max_tokens=4 is too short for one triplet in 24 of 24 graphs looked at; 'cat beside dog' takes 5 ",
        "Stream 'c' (kind regions, ratio 2) needs samples with entities, but dataset 'small' has none: its 5 shard(s) "
        "(s-000000 ... s-000004) hold 24 samples, 24 with captions, 0 with entities, 0 with relations.",
        "Stream 'c': flip=7 must be a chance between 0 and 1.",
        "mask_fraction=2 must be a share",
        "image_size=16 of the data differs from the backbone's image_size=224",
    ]
    for line in expected:
        assert sum(problem.startswith(line) for problem in problems) == 1, line
    assert len(problems) == len(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_workers": 10_000},
            r"num_workers=10000 is more workers than the shards can serve: one pass .* 16 batches",
        ),
        ({"num_workers": -1}, "must not be negative"),
        ({"seed": -1}, "seed=-1"),
        ({"image_size": 0}, "image_size=0"),
        ({"tokenizer": "./no/such/folder"}, "no tokenizer folder"),
    ],
)
def test_settings_that_cannot_work(make, options, message):
    data = make(**{k: v for k, v in options.items() if k != "tokenizer"})
    data.tokenizer_name = options.get("tokenizer", data.tokenizer_name)
    with pytest.raises(ConfigError, match=message):
        data.setup()


def test_more_workers_than_processors(make, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    with pytest.raises(ConfigError, match="num_workers=5 is more than this machine"):
        make(num_workers=5).setup()


def test_batch_must_divide_by_the_processes(make, monkeypatch):
    monkeypatch.setattr(module_file, "world_size", lambda: 4)
    with pytest.raises(ConfigError, match=r"'captions': batch_size=6 .* multiple of their number, 4"):
        make().setup()


@pytest.mark.parametrize(
    "changes", [{"ratio": -1.0}, {"ratio": 0.0}, {"batch_size": 0}, {"kind": "videos"}, {"datasets": {}}]
)
def test_stream_that_cannot_work(make, changes):
    with pytest.raises(ConfigError):
        make({"x": dataclasses.replace(stream("captions", make.shards), **changes)}).setup()


def test_shards_with_too_many_unusable_samples(make):
    members = [
        (f"{i}.{e}", c)
        for i in range(9)
        for e, c in (("png", picture(i)), ("json", b"{" if i > 6 else b'{"caption": "a"}'))
    ]
    (make.folder / "b").mkdir()
    data = make({"web": stream("captions", write_tar(make.folder / "b" / "x.tar", members))})
    with pytest.raises(ConfigError, match=r"2 of 9 samples are bad .*malformed_json 2.*'x' with 2"):
        data.setup()
    data = make(copy.deepcopy(data.streams), max_bad_fraction=0.3)
    data.setup()
    assert data.report() == {"small": {"malformed_json": 2}}


def test_web_shards_as_they_are(make, realdata, monkeypatch):
    monkeypatch.setenv("RELPRETRAIN_CACHE", str(make.folder / "cache"))
    data = make({"web": stream("captions", str(realdata / "webdataset"), 8)}, image_size=32)
    batches = _run(data, 4)
    assert len({key for batch in batches for key in batch.keys}) == 32
    assert not any(batch.skipped for batch in batches)
