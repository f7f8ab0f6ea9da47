import dataclasses
import io
import re

import lightning.pytorch as pl
import pytest
import torch

from relpretrain.data import checks
from relpretrain.data.pipeline.preprocess import Preprocess
from relpretrain.errors import ConfigError
from tests.data.datamodules import fit
from tests.data.small import picture, stream


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_training_resumes_with_exactly_the_next_batch(make, tmp_path, workers):
    expected, _ = fit(make(), tmp_path, 14)
    first, trainer = fit(make(num_workers=workers), tmp_path, 5, enable_checkpointing=False)
    trainer.save_checkpoint(tmp_path / "stop.ckpt")
    second, _ = fit(make(num_workers=workers), tmp_path, 14, resume=tmp_path / "stop.ckpt")
    assert first + second == expected
    assert [step for step, _ in expected] == list(range(14))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_go_on_where_the_last_ended(make, tmp_path, workers):
    data = make(num_workers=workers)
    seen, _ = fit(data, tmp_path, 12, limit_train_batches=4, enable_checkpointing=False)
    assert [step for step, _ in seen] == list(range(12))


RULES = {  # rule, max_steps, batches to a step; batches and steps trained; whether the Trainer's number is told
    "nothing twice": ("first_exhausted", -1, 1, 4, 4, True),  # 24 samples in batches of 6
    "everything once": ("all_exhausted", -1, 1, 4, 4, True),
    "the trainer's limit comes first": ("first_exhausted", 3, 1, 3, 3, False),
    "both at once": ("first_exhausted", 4, 1, 4, 4, False),
    "the rule comes first": ("first_exhausted", 50, 1, 4, 4, True),
    "a last step of one batch": ("all_exhausted", -1, 3, 4, 2, True),
    "no rule": ("max_steps", 7, 1, 7, 7, False),
}


@pytest.mark.filterwarnings("ignore:.*(treespec|num_workers|many workers)")
@pytest.mark.parametrize("case", RULES)
def test_training_ends_by_its_rule(make, tmp_path, case, recwarn):
    stop, limit, accumulate, batches, steps, told = RULES[case]
    data = make({"captions": stream("captions", make.shards, 6)}, stop=stop)
    options = {"accumulate_grad_batches": accumulate, "enable_checkpointing": False}
    options["max_epochs"] = -1 if stop == "max_steps" else 9  # empty ones would follow
    seen, trainer = fit(data, tmp_path, limit, **options)
    assert [step for step, _ in seen] == list(range(batches))
    assert trainer.global_step == steps
    assert trainer.current_epoch <= 1
    assert (data.optimizer_steps(accumulate), trainer.max_steps) == (
        None if stop == "max_steps" else -(-4 // accumulate),
        limit,
    )
    lines = [str(warning.message) for warning in recwarn if "stop=" in str(warning.message)]
    assert [f"give the Trainer max_steps={steps}, from" in line for line in lines] == [True] * told
    assert data.counters() == {
        "data/captions/small_samples": 6.0 * batches,
        "data/captions/small_epochs": 6 * batches / 24,
    }
    assert data.state_dict()["taken"] == {"captions/small": 6 * batches}


@pytest.mark.filterwarnings("ignore")
def test_a_run_resumed_at_the_end_of_its_rule_is_over(make, tmp_path):
    streams = {"captions": stream("captions", make.shards, 6)}
    _, trainer = fit(make(streams, stop="all_exhausted"), tmp_path, -1, enable_checkpointing=False)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    again = make(streams, stop="all_exhausted")
    seen, trainer = fit(again, tmp_path, -1, resume=tmp_path / "end.ckpt", max_epochs=9)
    assert seen == []
    assert trainer.current_epoch <= 1  # no empty epochs


@pytest.mark.parametrize(
    "changes", [{"datasets": {"small": "nowhere/*.tar"}}, {"ratio": -1.0}, {"kind": "graphs", "batch_size": 0}]
)
def test_a_rule_says_no_end_where_setup_will_report(make, changes):
    broken = dataclasses.replace(stream("captions", make.shards, 6), **changes)
    assert make({"x": broken}, stop="all_exhausted").optimizer_steps() is None
    assert make(stop="exhausted").optimizer_steps() is None
    assert make(stop="all_exhausted", exclude="nowhere.json").optimizer_steps() is None


@pytest.mark.filterwarnings("ignore:.*(treespec|num_workers|many workers)")
@pytest.mark.parametrize("workers", [0, 1])
def test_overfit_batches_repeats_the_first_batches(make, tmp_path, workers, capsys):
    held = {"held": stream("captions", make.shards, 6), "graphs": stream("graphs", make.shards, 4)}
    data = make(num_workers=workers, validation=held)
    with pytest.warns(UserWarning, match=r"overfit_batches=2: every epoch repeats the first 2 batches \(of captions"):
        seen, _ = fit(data, tmp_path, 6, overfit_batches=2, enable_checkpointing=False)
    trained = [e[1] for e in seen if e[0] != "val"]
    assert trained == trained[:2] * 3
    assert trained[0] != trained[1]
    assert [e[0] for e in seen if e[0] != "val"] == list(range(6))
    assert [e[1] for e in seen if e[0] == "val"] == ["held", "held", "graphs", "graphs"] * 3
    assert "2 batches (stop: overfit_batches, again and again)" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["overfit_batches", "limit_train_batches", "limit_val_batches"])
def test_shares_of_batches_without_end_are_refused(make, tmp_path, flag):
    with pytest.raises(ConfigError, match=rf"trainer\.{flag}=0\.5: .* Give a whole number"):
        fit(make(), tmp_path, 4, **{flag: 0.5})


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
    if case == "validation by time" and not hasattr(pl.Trainer(logger=False), "_val_check_time_interval"):
        pytest.skip("this Lightning does not validate by time")
    held = {"held": stream("captions", make.shards, 6), "graphs": stream("graphs", make.shards, 4)}
    seen, _ = fit(make(validation=held), tmp_path, steps, **{"enable_checkpointing": False, **options})
    trained = [entry[0] for entry in seen if entry[0] != "val"]
    assert trained == list(range(2 if case == "a rehearsal" else 4))
    warned = [str(w.message) for w in recwarn if "trainer." in str(w.message)]
    assert len(warned) == (told is not None), warned
    assert told is None or re.search(told, warned[0])


def test_limits_of_validation_are_for_each_stream(make, tmp_path):
    held = {"held": stream("captions", make.shards, 6), "graphs": stream("graphs", make.shards, 4)}
    options = {"limit_val_batches": 1, "val_check_interval": 2, "limit_train_batches": 2}
    seen, _ = fit(make(validation=held), tmp_path, 2, enable_checkpointing=False, **options)
    assert [entry[1] for entry in seen if entry[0] == "val"] == ["held", "graphs"]


def test_a_rule_that_leaves_no_step(make):
    with pytest.raises(ConfigError, match=r"leaves no step.*samples per epoch: small \(24\)"):
        make({"captions": stream("captions", make.shards, 30)}, stop="first_exhausted").setup()
    with pytest.raises(ConfigError, match="stop='exhausted' must be one of max_steps, first_exhausted, all_exhausted"):
        make(stop="exhausted").setup()


@pytest.mark.filterwarnings("ignore")
def test_validation_is_fixed_and_leaves_training_alone(make, tmp_path):
    validation = {
        "held": stream("captions", make.shards, 8),
        "graphs": stream("graphs", make.shards, 6, min_scale=0.5),
    }
    options = {"val_check_interval": 4, "limit_train_batches": 8, "enable_checkpointing": False}
    data = make(validation=validation, validation_batches=3)
    seen, _ = fit(data, tmp_path, 8, **options)
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


def test_shards_are_looked_up_once(make, monkeypatch):
    data, asked, find = make(stop="first_exhausted"), [], checks.find
    data._found = None  # as before `prepare_data`
    monkeypatch.setattr(checks, "find", lambda *of: (asked.append(of), find(*of))[1])
    data.prepare_data()
    assert data.optimizer_steps()
    data.setup()
    assert len(asked) == 1


def test_a_state_of_another_layout_is_told(make):
    data = make()
    data.setup()
    data.load_state_dict({"next_step": 3, "plan": "of an earlier version"})
    with pytest.warns(UserWarning, match="The data differs from the checkpoint's"):
        data.train_dataloader()
