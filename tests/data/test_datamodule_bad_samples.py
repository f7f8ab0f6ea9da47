import copy
from itertools import islice
from types import SimpleNamespace

import pytest
import torch

from relpretrain.data import datamodule as module_file
from relpretrain.errors import ConfigError, TooManyBadSamples
from tests.data.datamodules import assert_equal, fit, run, some_bad
from tests.data.shards.test_row_index import write_tar
from tests.data.small import picture, stream, write_shards


def test_bad_samples_are_counted_where_they_are(make):
    broken = {3: picture(3)[:700], 11: b"nothing"}
    shards = write_shards(make.folder / "bad", image=lambda i: broken.get(i) or picture(i), prefix="b")
    data = make({"captions": stream("captions", shards, 8)}, max_bad_fraction=0.1)
    for batch in run(data, 3):
        data.on_after_batch_transfer(batch, 0)
        assert len(batch) == 8  # others in their places
    assert data.report() == {"small": {"not_an_image": 1, "truncated_image": 1}}
    assert "small: truncated_image: 1 times (first: b-000000/k003)" in data.bad_samples.lines()


def test_a_bad_sample_in_a_repeated_batch_counts_once(make, tmp_path):
    data = make({"captions": stream("captions", some_bad(make, 40), 40)})
    with pytest.warns(UserWarning, match="overfit_batches"):
        fit(data, tmp_path, 10, overfit_batches=1, enable_checkpointing=False)
    assert data.report() == {"small": {"not_an_image": 1}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 1])
def test_run_stops_when_too_many_are_bad(make, tmp_path, workers):
    shards = write_shards(make.folder / "bad", image=lambda i: picture(i)[: 700 if 5 <= i < 10 else None], prefix="b")
    data = make({"captions": stream("captions", shards, 8)}, num_workers=workers)
    with pytest.raises(TooManyBadSamples, match=r"'small': 5 of 24 samples are bad .* 'b-000001' with 5 of truncated"):
        fit(data, tmp_path, 50, enable_checkpointing=False)


@pytest.mark.filterwarnings("ignore")
def test_one_bad_sample_of_forty_stops_no_run_of_single_samples(make, tmp_path):
    data = make({"captions": stream("captions", some_bad(make, 40), 1)})
    seen, _ = fit(data, tmp_path, 120, enable_checkpointing=False)
    assert [step for step, _ in seen] == list(range(120))
    assert data.report() == {"small": {"not_an_image": 3}}  # one an epoch


def test_what_takes_the_place_of_a_bad_sample_is_the_same_on_any_ranks_and_workers(make, monkeypatch):
    shards = some_bad(make)

    def batches(**options):
        streams = {"captions": stream("captions", shards, 2), "graphs": stream("graphs", shards, 2)}
        return run(make(streams, **options), 30)

    whole = batches()
    assert all(len(batch) == 2 for batch in whole)
    assert sum(len([1 for _, reason, _ in batch.skipped if reason == "not_an_image"]) for batch in whole) > 4
    for a, b in zip(whole, batches(num_workers=2), strict=True):
        assert_equal(a, b)
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
        run(make({"captions": stream("captions", shards, 8)}, num_workers=workers), 1)


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


def test_a_run_that_goes_on_tells_of_all_its_bad_samples(make, monkeypatch):
    shards = some_bad(make, 40)

    def begun(**options):
        data = make({"captions": stream("captions", shards, 8)}, **options)
        data.setup()
        return data

    def take(data, batches):
        for batch in islice(iter(data.train_dataloader()), batches):
            data.on_after_batch_transfer(batch, 0)
        return data.bad_samples.bad["small"]

    first = begun()
    assert take(first, 5) == 1  # of an epoch
    second = begun()
    second.load_state_dict(first.state_dict())
    assert take(second, 5) == 2
    assert second.bad_samples.seen["small"] == 80
    third = begun()
    third.load_state_dict(first.state_dict())
    monkeypatch.setattr(module_file, "rank", lambda: 1)  # of which a checkpoint knows nothing
    assert take(third, 5) == 1
    monkeypatch.undo()
    other = begun(seed=1)
    other.load_state_dict(first.state_dict())
    with pytest.warns(UserWarning, match="what is left out is counted anew"):
        assert take(other, 5) == 1


def test_a_data_module_that_is_fitted_twice_counts_its_bad_samples_once(make, tmp_path):
    data = make({"captions": stream("captions", some_bad(make, 40), 8)})
    _, trainer = fit(data, tmp_path, 5, enable_checkpointing=False)
    assert data.report() == {"small": {"not_an_image": 1}}
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    fit(data, tmp_path, 10, tmp_path / "x.ckpt", enable_checkpointing=False)
    assert data.report() == {"small": {"not_an_image": 2}}
    assert data.bad_samples.seen["small"] == 80


def test_what_is_saved_inside_an_accumulation_counts_no_batch_twice(make):
    data = make({"captions": stream("captions", some_bad(make, 40), 8)})
    data.setup()
    data.trainer = trainer = SimpleNamespace(training=True, global_step=0, accumulate_grad_batches=2, should_stop=False)
    for number, batch in enumerate(islice(iter(data.train_dataloader()), 5)):
        trainer.global_step = number // 2
        data.on_after_batch_transfer(batch, 0)
    state = data.state_dict()
    assert (state["next_step"], state["bad_samples"]["seen"]) == (4, {"small": 32})
    trainer.global_step = 3  # the step is taken
    state = data.state_dict()
    assert (state["next_step"], state["bad_samples"]["seen"]) == (5, {"small": 40})
