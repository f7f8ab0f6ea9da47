from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from relpretrain.data.pipeline.images import IMAGE_MEAN, IMAGE_STD, pixels_of, to_image, to_tensor
from relpretrain.data.pipeline.sample import Sample
from relpretrain.data.pipeline.transforms import augment
from relpretrain.data.sampling.stream import Stream
from relpretrain.pixels import to_rgb
from relpretrain.scene_graph import Box, Entity, FlipRefused, Relation, SceneGraph, holds
from tests.scene_graph.strategies import HEIGHT, WIDTH, graphs


def _true(relation, subject, object_):
    return None if None in (subject, object_) else holds(relation, subject, object_)


RED, BLUE = (230, 20, 20), (20, 20, 230)


def _stream(kind="graphs", **changes):
    return Stream(kind, {"d": "s"}, 4, **changes)


def _scene(width=96, height=64, red=Box(8, 10, 40, 40), blue=Box(58, 30, 88, 58), captions=()):  # noqa: B008
    pixels = np.full((height, width, 3), 128, np.uint8)
    for box, color in ((red, RED), (blue, BLUE)):
        x0, y0, x1, y1 = map(int, box)
        pixels[y0:y1, x0:x1] = color
    graph = SceneGraph(
        (Entity("red block", red), Entity("blue block", blue)),
        (Relation(0, "left of", 1), Relation(1, "right of", 0), Relation(0, "above", 1), Relation(0, "near", 1)),
    )
    return Sample("d/s/k", pixels_of(Image.fromarray(pixels)), "1", "test", list(captions), graph)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("color", [False, True])
def test_boxes_stay_over_their_objects_and_relations_true(size, color):
    sample, flips, crops = _scene(), 0, 0
    for seed in range(60):
        pixels, new, _ = augment(sample, size, _stream(color=color), np.random.default_rng(seed))
        assert pixels.shape == (3, size, size)
        assert pixels.dtype == torch.uint8
        pixels = pixels.permute(1, 2, 0).int()
        for entity in new.graph.entities:
            channel = 0 if entity.label == "red block" else 2
            x, y = entity.box.center
            half_w, half_h = entity.box.width / 2 - 2, entity.box.height / 2 - 2  # bicubic blurs the border
            inside = pixels[
                int(np.ceil(y - half_h)) : int(y + half_h), int(np.ceil(x - half_w)) : int(x + half_w)
            ].reshape(-1, 3)
            assert len(inside)
            other = 2 - channel
            assert (inside[:, channel] > inside[:, other] + 51.0).all()
        for relation in new.graph.relations:
            boxes = new.graph.entities[relation.subject].box, new.graph.entities[relation.object].box
            assert holds(relation.relation, *boxes) is not False
        names = {(new.graph.entities[r.subject].label, r.relation) for r in new.graph.relations}
        flips += ("red block", "right of") in names
        crops += new.graph.entities[0].box.width != pytest.approx(32 / 96 * size)
    assert 10 < flips < 50
    assert crops > 30


def assert_close_to_evaluation(pixels, sample):
    """The same image up to the last bit: evaluation resizes with Pillow."""
    squashed = to_image(sample.image).resize(pixels.shape[1:], Image.Resampling.BICUBIC)
    assert (pixels.int() - pixels_of(squashed).int()).abs().max() <= 1


@pytest.mark.parametrize(
    "caption", ["a dog on the left", "the RIGHTMOST dog", "a left-hand drive car", "to the right, a cat"]
)
def test_captions_that_speak_of_a_side_are_never_flipped(caption):
    sample = _scene(captions=["two blocks", caption])
    for seed in range(20):
        stream = _stream("captions", flip=1.0, min_scale=1.0, color=False)
        _, new, _ = augment(sample, 32, stream, np.random.default_rng(seed))
        assert new.graph.entities[0].box.x_min < new.graph.entities[1].box.x_min
        assert new.captions == sample.captions


def test_bright_is_no_side():
    stream = _stream("captions", flip=1.0, min_scale=1.0, color=False)
    _, new, _ = augment(_scene(captions=["a bright cleft"]), 32, stream, np.random.default_rng(0))
    assert new.graph.entities[0].box.x_min > new.graph.entities[1].box.x_min


def test_a_refused_flip_leaves_image_and_graph_as_they_are():
    sample = _scene()
    sample = replace(sample, graph=SceneGraph(sample.graph.entities, (Relation(0, "left behind", 1),)))
    stream = _stream(flip=1.0, min_scale=1.0, color=False)
    pixels, new, _ = augment(sample, 64, stream, np.random.default_rng(0))
    assert_close_to_evaluation(pixels, sample)
    assert new.graph.relations == sample.graph.relations


def test_a_flip_mirrors_the_evaluation_image():
    sample = _scene()
    pixels, _, dropped = augment(sample, 48, _stream(flip=1.0, min_scale=1.0, color=False), np.random.default_rng(0))
    assert_close_to_evaluation(pixels.flip(2), sample)
    assert not dropped


@pytest.mark.parametrize(("kind", "left"), [("graphs", "relations"), ("regions", "entities")])
def test_a_crop_that_leaves_nothing_gives_way_to_the_whole_image(kind, left):
    corners = _scene(red=Box(0, 0, 6, 6), blue=Box(90, 58, 96, 64))
    sizes = []
    for seed in range(40):
        stream = _stream(kind, min_scale=0.1, color=False)
        _, new, dropped = augment(corners, 32, stream, np.random.default_rng(seed))
        assert getattr(new.graph, left)
        sizes.append(dropped["entity_cropped"])
    assert 0 in sizes
    assert kind == "graphs" or 1 in sizes


def test_what_a_crop_takes_is_counted():
    total = 0
    for seed in range(20):
        _, new, dropped = augment(_scene(), 32, _stream("captions", min_scale=0.1), np.random.default_rng(seed))
        assert dropped["entity_cropped"] == 2 - len(new.graph.entities)
        assert dropped["relation_lost_entity"] + dropped["relation_untrue"] == 4 - len(new.graph.relations)
        total += dropped["entity_cropped"]
    assert total


def test_augmentation_depends_on_its_generator_alone():
    one, same, other = (augment(_scene(), 32, _stream(), np.random.default_rng(s)) for s in (3, 3, 4))
    assert torch.equal(one.pixels, same.pixels)
    assert one.sample.graph == same.sample.graph
    assert not torch.equal(one.pixels, other.pixels)


def test_crops_keep_their_share_of_the_area():
    stream, shares = _stream("captions", min_scale=0.5, color=False), []
    for seed in range(200):
        sample = _scene()
        _, new, _ = augment(sample, 96, stream, np.random.default_rng(seed))
        areas = {entity.label: entity.box.area for entity in sample.graph.entities}
        for entity in new.graph.entities:
            if Box(1, 1, 95, 95).contains(entity.box):  # not clipped
                shares.append(areas[entity.label] / (96 * 64) * (96 * 96) / entity.box.area)
    assert min(shares) == pytest.approx(0.5, abs=0.05)
    assert 0.9 < max(shares) <= 1


def test_evaluation_normalises_with_clips_statistics():
    tensor = to_tensor(Image.new("RGB", (7, 5), (255, 0, 128)), 4)
    expected = (np.array([1, 0, 128 / 255]) - IMAGE_MEAN) / IMAGE_STD
    assert tensor.shape == (3, 4, 4)
    assert np.allclose(tensor[:, 1, 2], expected, atol=1e-6)


def test_pixels_become_an_image_and_pixels_again():
    pixels = torch.arange(24, dtype=torch.uint8).reshape(3, 2, 4)
    assert to_image(pixels).size == (4, 2)
    assert to_image(pixels).getpixel((3, 1)) == (7, 15, 23)
    assert torch.equal(pixels_of(to_image(pixels.flip(2))), pixels.flip(2))


def test_evaluation_squashes_instead_of_cropping():
    wide = Image.new("RGB", (40, 10))
    wide.paste((255, 255, 255), (20, 0, 40, 10))
    bright = to_tensor(wide, 8)[0].mean(0)
    assert (bright[:3] < -1).all()
    assert (bright[5:] > 1).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "RGBA", "LA", "I", "I;16", "F", "YCbCr", "HSV"])
def test_every_mode_becomes_rgb(mode):
    if mode in ("I", "I;16"):
        image = Image.fromarray(np.full((4, 4), 40_000, np.uint16 if mode == "I;16" else np.int32))
        expected = 40_000 / 257
    else:
        image = Image.new("L", (4, 4), 200)
        image = (image.convert("RGB") if mode in ("HSV", "YCbCr", "CMYK", "P", "RGBA") else image).convert(mode)
        expected = 255 if mode == "1" else 200
    converted = to_rgb(image)
    assert converted.mode == "RGB"
    if mode != "1":
        assert abs(np.asarray(converted).astype(int) - int(expected)).max() <= 4  # a palette has few colours


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert to_rgb(image).getpixel((0, 0)) == (255, 255, 255)
    assert to_rgb(image).getpixel((1, 0)) == (10, 20, 30)
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([9, 9, 9])
    palette.info["transparency"] = 0
    assert to_rgb(palette).getpixel((0, 0)) == (255, 255, 255)


def test_an_rgb_image_is_handed_back_as_it_is():
    image = Image.new("RGB", (2, 2))
    assert to_rgb(image) is image


@settings(max_examples=80, deadline=None, derandomize=True)
@given(graphs(), st.sampled_from(["captions", "regions", "graphs"]), st.floats(0.05, 1.0), st.integers(0, 999))
def test_after_any_crop_and_flip_boxes_lie_inside_and_what_was_true_still_is(graph, kind, min_scale, seed):
    size = 24
    named = tuple(replace(entity, label=f"thing {i}") for i, entity in enumerate(graph.entities))
    image = torch.zeros(3, int(HEIGHT), int(WIDTH), dtype=torch.uint8)
    sample = Sample("d/s/k", image, "1", "test", [], SceneGraph(named, graph.relations))

    def augmented(flip):
        stream = _stream(kind, flip=flip, min_scale=min_scale, color=False)
        return augment(sample, size, stream, np.random.default_rng(seed))

    _, plain, dropped = augmented(0.0)
    _, flipped, _ = augmented(1.0)
    frame = Box(0, 0, size, size)

    def placed(graph):
        return [entity.box for entity in graph.entities if entity.box is not None]

    for new in (plain.graph, flipped.graph):
        assert all(Box(-1e-9, -1e-9, size + 1e-9, size + 1e-9).contains(box) for box in placed(new))
        assert all(box.clip(frame).area > 0 for box in placed(new))
    try:
        assert flipped.graph == plain.graph.flip(float(size))  # so left and right are exchanged with the boxes
    except FlipRefused:
        assert flipped.graph == plain.graph

    def told(of):
        names = [entity.label for entity in of.entities]
        boxes = [entity.box for entity in of.entities]
        return [
            ((names[r.subject], r.relation, names[r.object]), _true(r.relation, boxes[r.subject], boxes[r.object]))
            for r in of.relations
        ]

    before = told(sample.graph)
    after = told(plain.graph)
    assert len(before) == len(after) + dropped["relation_lost_entity"] + dropped["relation_untrue"]
    was = dict(before)
    for triplet, now in after:
        assert was[triplet] is None or now or not was[triplet]
    for (_, now), (_, mirrored) in zip(after, told(flipped.graph), strict=True):
        assert now == mirrored
