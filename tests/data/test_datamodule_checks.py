import dataclasses
import os
from types import SimpleNamespace

import pytest

from relpretrain.data import datamodule as module_file
from relpretrain.errors import ConfigError
from relpretrain.types import CaptionBatch, GraphBatch, RegionBatch
from tests.data.small import stream, write_shards


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
        "Stream 'c' (kind regions, ratio 2) needs samples with entities with boxes, but dataset 'small' has none: "
        "its 5 shard(s) (s-000000 ... s-000004) hold 24 samples, 24 with captions, 0 with entities with boxes, "
        "0 with relations, 0 with relations between two boxes.",
        "Stream 'c': flip=7 must be a probability between 0 and 1.",
        "mask_fraction=2 must be a fraction",
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
            r"num_workers=10000 is more workers than the shards can serve: one epoch .* 16 batches",
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
