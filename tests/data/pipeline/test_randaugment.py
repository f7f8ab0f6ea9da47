"""The random operations of the official code: what each does, how often, and that contrast is stretched as intended."""

from collections import Counter

import numpy as np
import pytest
import torch

from relpretrain.data.pipeline import randaugment as module
from relpretrain.data.pipeline import transforms
from relpretrain.data.pipeline.randaugment import COLOUR, SHAPE, rand_augment
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.sampling.stream import Stream
from relpretrain.scene_graph import SceneGraph


@pytest.fixture
def pixels():
    ramp = np.linspace(0.3, 0.7, 32, dtype=np.float32)
    image = np.stack([np.tile(ramp, (32, 1)), np.tile(ramp[:, None], (1, 32)), np.full((32, 32), 0.5)], 2)
    return torch.from_numpy((image * 255).astype(np.uint8)).permute(2, 0, 1)


def test_a_draw_repeats_itself_and_keeps_shape_and_range(pixels):
    for seed in range(20):
        one, two = (rand_augment(pixels, np.random.default_rng(seed), shape=True) for _ in range(2))
        assert torch.equal(one, two)
        assert one.shape == pixels.shape
        assert one.dtype == torch.uint8


@pytest.mark.parametrize("shape", [True, False])
def test_each_operation_comes_as_often_as_any_other(pixels, shape, monkeypatch):
    seen = Counter()

    def noting(name):
        return lambda image, sign: (seen.update([(name, sign)]), image)[1]

    monkeypatch.setattr(module, "COLOUR", tuple(noting(("colour", i)) for i in range(len(COLOUR))))
    monkeypatch.setattr(module, "SHAPE", tuple(noting(("shape", i)) for i in range(len(SHAPE))))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        rand_augment(pixels[:, :2, :2], rng, shape)
    assert len(seen) == 2 * (10 if shape else 5)
    assert sum(seen.values()) == pytest.approx(1000, abs=100)  # two draws, half of them applied
    assert all(count == pytest.approx(1000 / len(seen), rel=0.5) for count in seen.values())


def test_contrast_is_stretched_and_not_turned_white(pixels, monkeypatch):
    monkeypatch.setattr(module, "COLOUR", (COLOUR[1],))
    monkeypatch.setattr(module, "CHANCE", 1.0)
    stretched = rand_augment(pixels, np.random.default_rng(0), shape=False)
    assert stretched[0].min() == 0
    assert stretched[0].max() == 255
    assert stretched[0].float().mean() == pytest.approx(127.5, abs=5)


@pytest.mark.parametrize("number", range(5))
def test_moving_operations_go_both_ways_and_fill_with_grey(number):
    white = module.Image.new("RGB", (40, 40), (255, 255, 255))
    ways = [np.asarray(SHAPE[number](white, sign)) for sign in (-1, 1)]
    assert not np.array_equal(*ways)
    for image in ways:
        assert (image == 128).all(axis=2).any()
        assert image.mean() > 180


def test_a_stream_asks_for_it(monkeypatch):
    asked = []
    monkeypatch.setattr(transforms, "rand_augment", lambda pixels, rng, shape: (asked.append(shape), pixels)[1])
    sample = Sample("d/s/k", torch.zeros(3, 40, 40, dtype=torch.uint8), "1", "test", ["a"], SceneGraph())
    for kind in ("captions", "regions"):  # boxes do not move along with shearing, shifting and turning
        transforms.augment(sample, 32, Stream(kind, {"d": "s"}, 1, color="randaugment"), np.random.default_rng(0))
    assert asked == [True, False]
