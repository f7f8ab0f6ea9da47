"""Counted FLOPs beside the floor, and the commands around them."""

import zipfile

import pytest
import torch

from benchmarks.step import MIXTURES, _mixture, _save
from benchmarks.step_batches import OBJECTIVES, made_batches
from benchmarks.step_floor import floor
from benchmarks.step_worker import Side
from relpretrain.features import patch_mask

LIMITS = {"captions": 1.02, "vsg": 1.05, "regions": 1.15, "mrc": 1.20}
"""FLOPs over the floor that a step may take."""


@pytest.fixture(scope="module")
def made():
    return made_batches(224, dict.fromkeys(OBJECTIVES, 4), 1, 1000)


@pytest.fixture(scope="module")
def side(made):
    names = [objective for of in OBJECTIVES.values() for objective in of]
    arguments = {"image_size": 224, "vocab_size": 1000, "vision_depth": 8, "region_depth": 2, "text_layers": 2}
    asked = {"model": "XVLM", "size": "small", "arguments": arguments, "objectives": names, "relations": made[1]}
    return Side(asked | {"device": "fake", "precision": "fp32"})


@pytest.mark.parametrize("stream", OBJECTIVES)
def test_a_step_is_near_the_floor_and_never_below(side, made, stream):
    batch, config = made[0][stream][0], side.module.backbone.config
    counted = side._count(side.module.on_before_batch_transfer(batch, 0))
    least = sum(floor(config, batch, OBJECTIVES[stream], len(made[1])).values())
    assert 0.999 < counted["total"] / least <= LIMITS[stream]
    parts = floor(config, batch, OBJECTIVES[stream], len(made[1]), backward=False)
    assert counted["forward"]["images"] == pytest.approx(parts["images"], rel=0.01)
    assert counted["forward"]["texts"] == pytest.approx(parts["texts"], rel=0.02)
    assert counted["bytes"] > 1e8


def test_made_boxes_are_as_large_as_in_photos(made):
    shown = patch_mask(made[0]["mrc"][0].entities.boxes, (14, 14)).float().mean(1)
    assert 0.02 < shown.median() < 0.2
    assert 0.1 < shown.mean() < 0.25


def test_a_mixture_weighs_images_by_batch_and_ratio():
    costs = {"captions": 10.0, "regions": 40.0}
    rows = [{"stream": s, "gflop_an_image": c, "gb_an_image": c, "over_floor": 1.25} for s, c in costs.items()]
    weights = {stream: images * ratio for stream, (images, ratio) in MIXTURES["X-VLM"].items()}
    mixture = _mixture("X-VLM", "base", rows)
    expected = sum(weights[s] * c for s, c in costs.items()) / sum(weights.values())
    assert mixture["gflop_an_image"] == pytest.approx(expected)
    assert mixture["over_floor"] == pytest.approx(1.25)


def test_a_measured_step_says_what_it_took():
    batches, relations = made_batches(32, {"regions": 2}, 1, 50)
    arguments = {"image_size": 32, "vocab_size": 50}
    asked = {"model": "XVLM", "size": "tiny", "arguments": arguments, "objectives": ["vma", "box"]}
    side = Side(asked | {"relations": relations, "device": "cpu", "precision": "fp32"})
    side.batches["here"] = batches["regions"][0]
    took = side.obey({"do": "step", "batch": "here"})
    assert took["cpu_s"] > 0
    assert took["peak_mb"] > 50
    assert set(side.obey({"do": "objectives", "batch": "here"})) == {"image encoder", "vma", "box"}
    before = side.module.backbone.text_projection.weight.clone()
    side.obey({"do": "optimize"})
    assert not torch.equal(before, side.module.backbone.text_projection.weight)


def test_an_older_side_can_read_the_batches(made, tmp_path):
    """It has the same types in other files."""
    for batch in (each for stream in made[0].values() for each in stream):
        with zipfile.ZipFile(_save(batch, tmp_path)) as archive:
            pickled = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        assert b"relpretrain.types\n" in pickled
        assert b"relpretrain.types." not in pickled
        assert type(batch).__module__ != "relpretrain.types"  # as it was
